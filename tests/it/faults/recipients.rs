//! Recipients: opt-outs of an address, double sends, retries of the failed, mail servers that are away.
