//! Statements that grow with the data: cut by their parameters, at every size.
