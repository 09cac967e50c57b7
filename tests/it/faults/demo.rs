//! The first hour: demo, examples, command line, settings, streams that resume.
