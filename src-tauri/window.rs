//! The window.

use std::path::Path;

use tauri::{App, WebviewUrl, WebviewWindowBuilder};

/// Opens the one window. What it keeps for itself, such as the theme, lies beside `home`, so that
/// profiles do not share it, and the folder of the vault stays the vault's own.
pub(crate) fn open(app: &App, profile: &str, home: &Path) -> tauri::Result<()> {
    let title = if profile == "default" { "Mildam".to_owned() } else { format!("Mildam – {profile}") };
    let window = WebviewWindowBuilder::new(app, "main", WebviewUrl::default())
        .title(title)
        .data_directory(home.with_extension("window"))
        .inner_size(1180.0, 760.0)
        .min_inner_size(380.0, 480.0)
        .build()?;
    #[cfg(target_os = "linux")]
    show_composition(&window)?;
    #[cfg(not(target_os = "linux"))]
    let _ = window;
    Ok(())
}

/// Shows a syllable while it is composed: wry switches this off on Linux, and then people type
/// Hangul blind until a syllable is done.
#[cfg(target_os = "linux")]
fn show_composition(window: &tauri::WebviewWindow) -> tauri::Result<()> {
    use webkit2gtk::{InputMethodContextExt, WebViewExt};
    window.with_webview(|webview| {
        if let Some(context) = webview.inner().input_method_context() {
            context.set_enable_preedit(true);
        }
    })
}
