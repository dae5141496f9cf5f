//! guardian.
