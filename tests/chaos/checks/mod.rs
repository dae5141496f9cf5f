//! The promises, each a pass over the books.

pub(super) mod changes;
pub(super) mod ends;
pub(super) mod occurrences;
pub(super) mod processes;
