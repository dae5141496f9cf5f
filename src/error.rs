//! The one error type: a kind by who must act, a context, a hint and a source.

use std::{fmt, process::ExitCode};

use tokio_postgres::error::DbError;

use crate::sqlstate;

/// Who must act on an error; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request was understood and refused, or failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// A setting, file or directory on this machine is wrong.
    Config,
    /// The database cannot be reached.
    Unreachable,
    /// The schema is missing, older or newer than this program.
    Schema,
    /// A stop was asked for and work is left.
    Drained,
}

impl ErrorKind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Unreachable => 4,
            Self::Schema => 5,
            Self::Drained => 6,
        }
    }

    /// Who must act on what the database refused with this SQLSTATE.
    fn of_sqlstate(code: &str) -> Self {
        match code {
            _ if sqlstate::is_missing_object(code) => Self::Schema,
            sqlstate::INVALID_DATABASE => Self::Config,
            sqlstate::TOO_MANY_CONNECTIONS | sqlstate::READ_ONLY_TRANSACTION => Self::Unreachable,
            _ if sqlstate::SERVER_AWAY.contains(&code) || code.starts_with("08") => Self::Unreachable,
            _ if code.starts_with("28") => Self::Config,
            _ => Self::Failed,
        }
    }
}

/// An error with its kind, what was being done, what to do now, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    code: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The routine of the server that executes RAISE. What a function raises so is not this program's lack: the query of a
/// calendar names a table that is not there, for example.
const RAISE: &str = "exec_stmt_raise";

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of a kind with a message: lower case, no full stop, names the object.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), code: None, detail: None, hint: None, source: None }
    }

    /// Says what was being done when this error happened; the kind stays, this error becomes the cause.
    #[must_use]
    pub fn within(self, context: impl Into<String>) -> Self {
        Self::new(self.kind, context).source(self)
    }

    /// The same error as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds what the person can do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As [`Self::hint`], when the database has denied something and said nothing of what to do.
    #[must_use]
    pub fn hint_if_denied(self, hint: &str) -> Self {
        let denied = self.code() == Some(sqlstate::INSUFFICIENT_PRIVILEGE);
        if denied && self.hint_text().is_none() { self.hint(hint) } else { self }
    }

    /// Attaches the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The SQLSTATE, when the database raised it: this error's own or that of its nearest cause.
    pub fn code(&self) -> Option<&str> {
        self.chain().find_map(|error| error.code.as_deref())
    }

    /// The detail, when the database gave one.
    pub fn detail_text(&self) -> Option<&str> {
        self.chain().find_map(|error| error.detail.as_deref())
    }

    /// The hint, when there is one: this error's own or that of its nearest cause.
    pub fn hint_text(&self) -> Option<&str> {
        self.chain().find_map(|error| error.hint.as_deref())
    }

    /// Prints the message, the causes, the detail and the hint, a line each.
    pub fn report(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        writeln!(out, "error: {self}")?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            writeln!(out, "cause: {error}")?;
            cause = error.source();
        }
        if let Some(detail) = self.detail_text() {
            writeln!(out, "detail: {detail}")?;
        }
        if let Some(hint) = self.hint_text() {
            writeln!(out, "hint: {hint}")?;
        }
        Ok(())
    }

    /// The message and its causes in one line.
    pub fn in_a_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }

    /// This error and the causes of the same type under it.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |error| error.source.as_deref()?.downcast_ref())
    }

    /// The exit code as the process returns it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.exit_code())
    }
}

impl From<&DbError> for Error {
    /// Keeps what the database said: message, detail, hint and code.
    fn from(db: &DbError) -> Self {
        let mut made = Self::new(ErrorKind::of_sqlstate(db.code().code()), db.message());
        if made.kind == ErrorKind::Schema && db.routine() == Some(RAISE) {
            made.kind = ErrorKind::Failed;
        }
        made.code = Some(db.code().code().to_owned());
        made.detail = db.detail().map(str::to_owned);
        made.hint = db.hint().map(str::to_owned);
        if made.kind == ErrorKind::Schema && made.code().is_some_and(sqlstate::is_missing_object) {
            made.hint = Some("run `sisyphus migrate` to install or upgrade the schema".to_owned());
        }
        made
    }
}

impl From<tokio_postgres::Error> for Error {
    /// Without an answer of the database the connection is to blame.
    fn from(error: tokio_postgres::Error) -> Self {
        use std::error::Error as _;
        if let Some(db) = error.as_db_error() {
            return Self::from(db);
        }
        let lost = error.is_closed() || error.source().is_some_and(|e| e.is::<std::io::Error>());
        let kind = if lost { ErrorKind::Unreachable } else { ErrorKind::Failed };
        let made = Self::new(kind, error.to_string());
        match error.into_source() {
            Some(source) => made.source(source),
            None => made,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
