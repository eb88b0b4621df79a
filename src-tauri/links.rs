//! Links that open the app: as an argument, from the system, or handed over by a second start.
//!
//! A link is only kept for the window, which shows where it leads. It connects to nothing.

use tauri::{App, AppHandle, Emitter, Manager, Wry, plugin::TauriPlugin};
use tauri_plugin_deep_link::DeepLinkExt;

use crate::app::Shell;
use crate::options::Options;

/// Tells the window that there is a link to take.
const EVENT: &str = "mildam-link";

/// Hands a second start over to the window that runs.
///
/// Only for the system's own place: whoever names another folder or profile wants another window.
pub(crate) fn single_instance() -> TauriPlugin<Wry> {
    tauri_plugin_single_instance::init(|app, arguments, _| {
        raise(app);
        if let Ok(Options { link: Some(link), .. }) = Options::read(arguments.into_iter().skip(1)) {
            offer(app, link);
        }
    })
}

/// Listens to the system, and lets it know of the scheme where no installer has done that.
pub(crate) fn listen(app: &App) {
    let handle = app.handle().clone();
    app.deep_link().on_open_url(move |event| {
        raise(&handle);
        if let Some(url) = event.urls().into_iter().next() {
            offer(&handle, url.into());
        }
    });
    // On macOS the link of the first start comes before the window is there.
    #[cfg(target_os = "macos")]
    if let Ok(Some(urls)) = app.deep_link().get_current()
        && let Some(url) = urls.into_iter().next()
    {
        offer(app.handle(), url.into());
    }
    #[cfg(target_os = "linux")]
    if app.env().appimage.is_some()
        && let Err(error) = app.deep_link().register_all()
    {
        tracing::warn!(%error, "links will not open this app image");
    }
}

fn offer(app: &AppHandle, link: String) {
    app.state::<Shell>().keep_link(link);
    if let Err(error) = app.emit(EVENT, ()) {
        tracing::error!(%error, "a link did not reach the window");
    }
}

fn raise(app: &AppHandle) {
    if let Some(window) = app.get_webview_window("main") {
        // A window manager may refuse; the link is shown all the same.
        let _ = window.unminimize();
        let _ = window.show();
        let _ = window.set_focus();
    }
}
