//! Why what is configured is not used, as long as that is so.

use std::sync::Arc;
use std::time::Instant;

use super::failures::Resting;
use super::load::{Refused, SETTINGS};

/// Why what is configured does not decide; the set before goes on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReloadError {
    /// A file is refused.
    #[error(transparent)]
    Refused(Arc<Refused>),
    /// It is what has failed too often.
    #[error(transparent)]
    Resting(#[from] Resting),
    /// A folder whose content is lost looks like one that requires nothing; an operator can say which it is.
    #[error(
        "{SETTINGS} is gone or empty, which said that a policy is required: write it with required: false if none is \
         any more"
    )]
    SettingsGone,
}

impl From<Refused> for ReloadError {
    fn from(refused: Refused) -> Self {
        Self::Refused(Arc::new(refused))
    }
}

/// A refusal, which the operator is told once.
pub(super) struct Refusal {
    pub error: ReloadError,
    /// The digest of the files, if they could be read.
    pub digest: Option<String>,
    pub at: Instant,
}

impl Refusal {
    /// Whether an operator reads the same of it as of `error`.
    pub fn is_as(&self, error: &ReloadError) -> bool {
        self.error.to_string() == error.to_string()
    }
}
