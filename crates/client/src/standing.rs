//! Where the connection stands: the part of the state that no vault knows.

use mildam_vault::Vault;

use crate::error::Error;
use crate::model::{ClientState, ConnectionState, OfferedKeyView, TransportView};
use crate::store;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) connection: ConnectionState,
    pub(crate) offered_key: Option<OfferedKeyView>,
    pub(crate) transport: Option<TransportView>,
    pub(crate) clock_ahead: Option<i64>,
    pub(crate) storage_fault: Option<String>,
}

impl Standing {
    pub(crate) const fn new(connection: ConnectionState) -> Self {
        Self { connection, offered_key: None, transport: None, clock_ahead: None, storage_fault: None }
    }

    /// The connection has come so far; whether that is new.
    pub(crate) fn advance(&mut self, connection: ConnectionState) -> bool {
        if !matches!(connection, ConnectionState::Connected | ConnectionState::Online) {
            self.transport = None;
        }
        std::mem::replace(&mut self.connection, connection) != connection
    }

    /// The whole state.
    ///
    /// # Errors
    /// If the vault cannot be read.
    pub(crate) fn state(self, vault: &Vault) -> Result<ClientState, Error> {
        Ok(ClientState {
            connection: self.connection,
            server: store::server(vault)?,
            account: store::account(vault)?,
            offered_key: self.offered_key,
            transport: self.transport,
            clock_ahead: self.clock_ahead,
            storage_fault: self.storage_fault,
        })
    }
}
