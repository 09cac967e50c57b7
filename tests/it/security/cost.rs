//! Answers are bounded, statements end with their request, and nobody takes more than a share.
