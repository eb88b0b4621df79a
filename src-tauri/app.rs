//! The app: one client, opened when the vault is unlocked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use mildam_cli::Host;
use mildam_client::{Client, Error, Unlock, UnlockKind};
use serde::Serialize;
use tauri::{AppHandle, Emitter, Manager};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::commands;
use crate::confirm::Turn;
use crate::links;
use crate::options::Options;
use crate::window;

/// What the window listens to.
const EVENT: &str = "mildam";

/// What a command tells when it is not done.
#[derive(Debug, Serialize)]
pub(crate) struct CommandError {
    code: String,
    message: String,
    details: BTreeMap<String, String>,
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self { code: error.code().to_owned(), message: error.to_string(), details: error.details().clone() }
    }
}

impl CommandError {
    pub(crate) fn new(code: &str, message: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned(), details: BTreeMap::new() }
    }

    /// The person was asked and did not want it, or was being asked something else.
    pub(crate) fn not_confirmed() -> Self {
        Self::new("not_confirmed", "This was not confirmed.")
    }

    pub(crate) fn no_account() -> Self {
        Self::new("no_account", "There is no account on this device yet.")
    }

    fn locked() -> Self {
        Self::new("locked", "Unlock Mildam first.")
    }
}

/// What the first screen must ask for.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Gate {
    /// Nothing: the vault is open.
    Open,
    /// The passphrase of the vault.
    Passphrase,
    /// A new passphrase, because the system has no keyring to keep one in.
    NewPassphrase,
}

/// A vault that is open.
struct Opened {
    /// Carries out `mildam` commands of the same account. It ends before the client does.
    host: Option<Host>,
    client: Client,
}

impl Opened {
    fn new(app: &AppHandle, home: &Path, client: Client) -> Self {
        let host = Host::start(home, client.clone());
        if let Err(error) = &host {
            tracing::warn!(%error, "commands beside the window have to wait until it is closed");
        }
        Self { host: host.ok(), client: forwarding(app, client) }
    }

    async fn shut_down(self) {
        drop(self.host);
        self.client.shut_down().await;
    }
}

/// The state behind the commands.
pub(crate) struct Shell {
    home: PathBuf,
    opened: Mutex<Option<Opened>>,
    /// The passphrase that the app was started with, until it is used.
    passphrase: std::sync::Mutex<Option<Zeroizing<String>>>,
    /// Held by whoever asks the person something outside the web view.
    asking: Mutex<()>,
    /// The link that the app was opened with, until the window takes it.
    link: std::sync::Mutex<Option<String>>,
}

impl Shell {
    fn new(home: PathBuf, link: Option<String>, passphrase: Option<Zeroizing<String>>) -> Self {
        Self {
            home,
            opened: Mutex::new(None),
            passphrase: std::sync::Mutex::new(passphrase),
            asking: Mutex::new(()),
            link: std::sync::Mutex::new(link),
        }
    }

    /// The turn to ask the person something, and to do it. Nobody waits for it: a script that asks again
    /// and again is told that nothing was confirmed.
    pub(crate) fn turn(&self) -> Result<Turn<'_>, CommandError> {
        self.asking.try_lock().map(Turn::new).map_err(|_| CommandError::not_confirmed())
    }

    /// Keeps a link for the window; a later one replaces it.
    pub(crate) fn keep_link(&self, link: String) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// The link that waits, once.
    pub(crate) fn take_link(&self) -> Option<String> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The client.
    pub(crate) async fn client(&self) -> Result<Client, CommandError> {
        let opened = self.opened.lock().await;
        opened.as_ref().map(|opened| opened.client.clone()).ok_or_else(CommandError::locked)
    }

    /// Opens the vault without asking, if that can be done.
    pub(crate) async fn boot(&self, app: &AppHandle) -> Result<Gate, CommandError> {
        if self.opened.lock().await.is_some() {
            return Ok(Gate::Open);
        }
        let given = self.passphrase.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(passphrase) = given {
            self.open(app, Unlock::Passphrase(passphrase)).await?;
            return Ok(Gate::Open);
        }
        match mildam_client::unlock_kind(&self.home) {
            Some(UnlockKind::Passphrase) => Ok(Gate::Passphrase),
            Some(UnlockKind::Keyring) => self.open(app, Unlock::Keyring).await.map(|()| Gate::Open),
            None => match self.open(app, Unlock::Keyring).await {
                Ok(()) => Ok(Gate::Open),
                Err(error) if error.code == "keyring_unavailable" => Ok(Gate::NewPassphrase),
                Err(error) => Err(error),
            },
        }
    }

    /// Opens the vault and begins to forward events.
    pub(crate) async fn open(&self, app: &AppHandle, unlock: Unlock) -> Result<(), CommandError> {
        let mut opened = self.opened.lock().await;
        if opened.is_some() {
            return Ok(());
        }
        *opened = Some(Opened::new(app, &self.home, Client::open(&self.home, unlock).await?));
        Ok(())
    }

    /// Closes the vault, puts together what can be read of it, and opens that.
    pub(crate) async fn repair(&self, app: &AppHandle, unlock: Unlock) -> Result<(), CommandError> {
        let mut opened = self.opened.lock().await;
        if let Some(before) = opened.take() {
            before.shut_down().await;
        }
        *opened = Some(Opened::new(app, &self.home, Client::repair(&self.home, unlock).await?.0));
        Ok(())
    }

    /// What the vault is opened with.
    pub(crate) fn protection(&self) -> Option<UnlockKind> {
        mildam_client::unlock_kind(&self.home)
    }

    /// Closes the vault until the passphrase is given again.
    pub(crate) async fn lock(&self) -> Result<Gate, CommandError> {
        if self.protection() != Some(UnlockKind::Passphrase) {
            return Err(CommandError::new("no_passphrase", "There is no passphrase to unlock with."));
        }
        self.shut_down().await;
        Ok(Gate::Passphrase)
    }

    async fn shut_down(&self) {
        if let Some(opened) = self.opened.lock().await.take() {
            opened.shut_down().await;
        }
    }
}

/// What opens a vault: the passphrase that was typed, or else the keyring.
pub(crate) fn unlock_with(passphrase: Option<String>) -> Unlock {
    passphrase.map_or(Unlock::Keyring, |typed| Unlock::Passphrase(Zeroizing::new(typed)))
}

/// Sends on to the window what the client tells.
fn forwarding(app: &AppHandle, client: Client) -> Client {
    let mut events = client.subscribe();
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        while let Some(event) = events.next().await {
            if let Err(error) = app.emit(EVENT, event) {
                tracing::error!(%error, "an event did not reach the window");
            }
        }
    });
    client
}

/// Runs until the window is closed.
pub(crate) fn run(options: Options, passphrase: Option<Zeroizing<String>>) -> tauri::Result<()> {
    let mut builder = tauri::Builder::default();
    if options.is_default() {
        // The first of all plugins: a second start ends here.
        builder = builder.plugin(links::single_instance());
    }
    let app = builder
        .plugin(tauri_plugin_deep_link::init())
        .invoke_handler(commands::all())
        .setup(move |app| {
            let home = match options.home {
                Some(home) => home,
                None => app.path().app_local_data_dir()?.join(&options.profile),
            };
            app.manage(Shell::new(home.clone(), options.link, passphrase));
            links::listen(app);
            window::open(app, &options.profile, &home)?;
            Ok(())
        })
        .build(tauri::generate_context!())?;
    app.run(|app, event| {
        if let tauri::RunEvent::Exit = event {
            let shell = app.state::<Shell>();
            tauri::async_runtime::block_on(shell.shut_down());
        }
    });
    Ok(())
}
