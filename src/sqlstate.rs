//! The SQLSTATEs this crate acts on.

/// This is a copy of the installation, or it was restored: nothing runs here before it is adopted.
pub const NOT_ADOPTED: &str = "SY001";
/// The guardian is unknown, or another one has followed it: register anew.
pub const GUARDIAN_UNKNOWN: &str = "SY401";
/// A guardian with another host_key is alive on that host.
pub const HOST_TAKEN: &str = "SY402";

/// Every code of our own class that `sql/` raises; docs/errors.md has a row for each.
#[rustfmt::skip]
pub const OURS: &[&str] = &[
    NOT_ADOPTED,
    "SY100", "SY101", "SY102", "SY103", "SY104", "SY105", "SY106", "SY107", "SY108", "SY109", "SY110", "SY111", "SY112",
    "SY201", "SY202", "SY203",
    "SY301",
    GUARDIAN_UNKNOWN, HOST_TAKEN,
];

/// A name that the schema should have and has not: a table or view.
pub const UNDEFINED_TABLE: &str = "42P01";
/// As above: a function, or one with other arguments.
pub const UNDEFINED_FUNCTION: &str = "42883";
/// As above: a column.
pub const UNDEFINED_COLUMN: &str = "42703";
/// There is no schema `sisyphus` in this database.
pub const INVALID_SCHEMA: &str = "3F000";
/// A text is no date, time or interval.
pub const INVALID_DATETIME_FORMAT: &str = "22007";
/// A text is no value of its type.
pub const INVALID_TEXT_REPRESENTATION: &str = "22P02";
/// A date or time has a field that no calendar has.
pub const DATETIME_FIELD_OVERFLOW: &str = "22008";
/// An argument has a value that it cannot have.
pub const INVALID_ARGUMENT: &str = "22023";
/// There is no object of that name.
pub const UNDEFINED_OBJECT: &str = "42704";
/// The role may not do this.
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// A lock was not had within `lock_timeout`.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
/// The statement was ended: by `statement_timeout`, or by somebody.
pub const QUERY_CANCELED: &str = "57014";
/// The server's rules do not admit this user from here, or not by this kind of connection.
pub const INVALID_AUTHORIZATION: &str = "28000";
/// The database does not exist.
pub const INVALID_DATABASE: &str = "3D000";
/// The server has no connection left for this role.
pub const TOO_MANY_CONNECTIONS: &str = "53300";
/// The session landed on a standby.
pub const READ_ONLY_TRANSACTION: &str = "25006";
/// The server is stopping (57P01, 57P02), starting (57P03), or has ended an idle session (57P05).
pub const SERVER_AWAY: [&str; 4] = ["57P01", "57P02", "57P03", "57P05"];

/// Whether the schema lacks something that this program needs.
pub fn is_missing_object(code: &str) -> bool {
    [UNDEFINED_TABLE, UNDEFINED_FUNCTION, UNDEFINED_COLUMN, INVALID_SCHEMA].contains(&code)
}

/// Whether two sessions made the same object of the cluster at once: it exists already, its row in the
/// catalogue is there already, or (XX000) was changed meanwhile.
pub fn is_catalogue_race(code: &str) -> bool {
    ["42710", "23505", "XX000"].contains(&code)
}
