//! Why a pull ended early.

use std::io;
use std::path::Path;
use std::time::Duration;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or an address makes no sense.
    Name,
    /// There is no such thing there.
    Missing,
    /// It is given to those who may have it.
    Denied,
    /// Too much was asked for lately.
    Limited,
    /// The connection, or the server: it may work the next time.
    Network,
    /// The server does not keep to the protocol.
    Protocol,
    /// No safe connection.
    Tls,
    /// What came is not what was promised.
    Checksum,
    /// The disk has no room.
    Space,
    /// Another pull of the same is on its way.
    Busy,
    /// Something else has the name.
    Taken,
    /// It is no model file.
    Format,
    /// Whoever asked for it stopped it.
    Stopped,
    /// The file system.
    Io,
}

impl Kind {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Name => "invalid_name",
            Kind::Missing => "not_found",
            Kind::Denied => "denied",
            Kind::Limited => "rate_limited",
            Kind::Network => "network",
            Kind::Protocol => "protocol",
            Kind::Tls => "tls",
            Kind::Checksum => "checksum_mismatch",
            Kind::Space => "no_space",
            Kind::Busy => "busy",
            Kind::Taken => "name_taken",
            Kind::Format => "invalid_file",
            Kind::Stopped => "stopped",
            Kind::Io => "io",
        }
    }
}

/// A line for people, and what kind of fault it is. It holds no key and no query of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// The line.
    pub line: String,
    /// After how long the server wants to be asked again.
    pub after: Option<Duration>,
}

impl Error {
    pub(crate) fn new(kind: Kind, line: impl Into<String>) -> Error {
        Error { kind, line: line.into(), after: None }
    }

    pub(crate) fn io(path: &Path, e: &io::Error) -> Error {
        if e.kind() == io::ErrorKind::StorageFull {
            return Error::new(Kind::Space, format!("{}: the disk is full", path.display()));
        }
        let text = e.to_string();
        let plain = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Error::new(Kind::Io, format!("{}: {plain}", path.display()))
    }

    pub(crate) fn stopped() -> Error {
        Error::new(Kind::Stopped, "stopped")
    }

    /// Whether the same may work a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Network | Kind::Limited)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Error {}
