//! Asking the person outside the web view, where no script can answer.

use tauri::{AppHandle, Manager, WebviewWindow};
use tokio::sync::{MutexGuard, oneshot};

use crate::app::CommandError;
use crate::question::{Language, Question, Words};

/// The turn to ask, from before what is asked about is looked up until it is done: meanwhile nothing else
/// of consequence can be asked for, nor be done between the question and what it was about.
pub(crate) struct Turn<'a> {
    _held: MutexGuard<'a, ()>,
}

impl<'a> Turn<'a> {
    pub(crate) const fn new(held: MutexGuard<'a, ()>) -> Self {
        Self { _held: held }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// `not_confirmed`, also if the question cannot be shown.
    pub(crate) async fn ask(&self, app: &AppHandle, question: Question) -> Result<(), CommandError> {
        let window = app.get_webview_window("main").ok_or_else(CommandError::not_confirmed)?;
        let (answer, answered) = oneshot::channel();
        let task = move || show(&window, question.words(language()), answer);
        if let Err(error) = app.run_on_main_thread(task) {
            tracing::error!(%error, "a question could not be shown");
        }
        // Without a dialog nobody is left who could answer.
        match answered.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(CommandError::not_confirmed()),
        }
    }
}

/// The language of the system, as far as it can be asked for.
#[cfg(target_os = "linux")]
fn language() -> Option<Language> {
    let names = gtk::glib::language_names();
    let korean = names.first().is_some_and(|name| name.starts_with("ko"));
    Some(if korean { Language::Korean } else { Language::English })
}

/// The language of the system, as far as it can be asked for: elsewhere that would need another library.
#[cfg(not(target_os = "linux"))]
const fn language() -> Option<Language> {
    None
}

/// Shows a dialog. Return, Escape and the button of the window all refuse.
#[cfg(target_os = "linux")]
fn show(window: &WebviewWindow, words: Words, answer: oneshot::Sender<bool>) {
    use gtk::ResponseType;
    use gtk::prelude::{DialogExt, GtkWindowExt, WidgetExt};

    let parent = match window.gtk_window() {
        Ok(parent) => parent,
        Err(error) => {
            tracing::error!(%error, "there is no window to ask in");
            return;
        }
    };
    let dialog = gtk::MessageDialog::builder()
        .transient_for(&parent)
        .modal(true)
        .destroy_with_parent(true)
        .message_type(gtk::MessageType::Warning)
        .buttons(gtk::ButtonsType::None)
        .title(words.title)
        .text(words.heading)
        .secondary_text(words.text)
        .build();
    let refuse = dialog.add_button(&words.refuse, ResponseType::Cancel);
    dialog.add_button(&words.act, ResponseType::Accept);
    dialog.set_default_response(ResponseType::Cancel);
    let answer = std::cell::Cell::new(Some(answer));
    dialog.connect_response(move |dialog, response| {
        if let Some(answer) = answer.take() {
            // The app may have ended meanwhile.
            let _ = answer.send(response == ResponseType::Accept);
        }
        // What was closed answers as well, and must not be closed once more.
        if response != ResponseType::DeleteEvent {
            dialog.close();
        }
    });
    dialog.show_all();
    refuse.grab_focus();
    dialog.present();
}

/// Shows a dialog. Its first button is the one that Return presses.
#[cfg(not(target_os = "linux"))]
fn show(window: &WebviewWindow, words: Words, answer: oneshot::Sender<bool>) {
    use rfd::{AsyncMessageDialog, MessageButtons, MessageDialogResult, MessageLevel};

    let Words { title, heading, text, refuse, act } = words;
    let dialog = AsyncMessageDialog::new()
        .set_level(MessageLevel::Warning)
        .set_title(title)
        .set_description(format!("{heading}\n\n{text}"))
        .set_buttons(MessageButtons::OkCancelCustom(refuse, act.clone()))
        .set_parent(window)
        .show();
    tauri::async_runtime::spawn(async move {
        let pressed = dialog.await;
        // The app may have ended meanwhile.
        let _ = answer.send(pressed == MessageDialogResult::Custom(act));
    });
}
