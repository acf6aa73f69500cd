//! What the validator has to say, and where: the same for the command line, the agent and the API.

use std::fmt;
use std::sync::Arc;

/// A place in one of the files that were read: which file (a position in `Findings`), line and column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct At {
    /// Position of the file among those read.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A value with the place it was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: At,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The whole set of documents is refused.
    Error,
    /// Accepted, but probably not what was meant.
    Warning,
}

impl Level {
    /// `error` or `warning`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One remark about one place in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file as it was named to us.
    pub file: Arc<str>,
    /// Line, from 1; 0 where the remark is about the file itself.
    pub line: u32,
    /// Column in characters, from 1; 0 where the remark is about the file itself.
    pub column: u32,
    /// Error or warning.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: Option<String>,
}

impl fmt::Display for Finding {
    /// `file:line:column: error: message; mend`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: {}", self.file, self.line, self.column, self.level.word(), self.message)?;
        match &self.mend {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

/// Collects all findings, not the first alone: a person mends a file once, not once a mistake.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    files: Vec<Arc<str>>,
    list: Vec<Finding>,
}

impl Findings {
    /// Takes note of a file; the number is what [`At::file`] holds.
    pub fn file(&mut self, name: &str) -> u32 {
        self.files.push(Arc::from(name));
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// The name of a file.
    #[must_use]
    pub fn name_of(&self, at: At) -> Arc<str> {
        self.files.get(at.file as usize).cloned().unwrap_or_else(|| Arc::from("-"))
    }

    /// Adds an error.
    pub fn error(&mut self, at: At, message: impl Into<String>, mend: impl Into<String>) {
        self.push(at, Level::Error, message.into(), mend.into());
    }

    /// Adds a warning.
    pub fn warn(&mut self, at: At, message: impl Into<String>, mend: impl Into<String>) {
        self.push(at, Level::Warning, message.into(), mend.into());
    }

    fn push(&mut self, at: At, level: Level, message: String, mend: String) {
        let mend = if mend.is_empty() { None } else { Some(mend) };
        let file = self.name_of(at);
        self.list.push(Finding { file, line: at.line, column: at.column, level, message, mend });
    }

    /// Whether anything forbids the use of these documents.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|f| f.level == Level::Error)
    }

    /// All findings, by file, line and column.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Finding> {
        let rank = |file: &Arc<str>| self.files.iter().position(|f| f == file);
        let mut keyed: Vec<_> = self.list.drain(..).map(|f| (rank(&f.file), f)).collect();
        keyed.sort_by(|(a, x), (b, y)| (a, x.line, x.column).cmp(&(b, y.line, y.column)));
        keyed.into_iter().map(|(_, f)| f).collect()
    }
}
