//! What somebody has asked of the vault and not been answered yet.

use super::vault::{Vault, VaultOperation};

/// Submits under one token, and knows how many answers are still to come.
pub(crate) struct Errands {
    token: u64,
    open: usize,
}

impl Errands {
    pub(crate) fn new(token: u64) -> Errands {
        Errands { token, open: 0 }
    }

    /// Asks for something.
    pub(crate) fn submit(&mut self, vault: &mut impl Vault, operation: VaultOperation) {
        self.open += 1;
        vault.submit(self.token, operation);
    }

    /// Something was asked under the token by other means.
    pub(crate) fn began_elsewhere(&mut self) {
        self.open += 1;
    }

    /// One was answered.
    pub(crate) fn answered(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Whether all were answered.
    pub(crate) fn is_done(&self) -> bool {
        self.open == 0
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }
}
