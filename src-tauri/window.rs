//! The window.

use tauri::{App, WebviewUrl, WebviewWindowBuilder};

/// Opens the one window.
pub(crate) fn open(app: &App, profile: &str) -> tauri::Result<()> {
    let title = if profile == "default" { "Mildam".to_owned() } else { format!("Mildam – {profile}") };
    let window = WebviewWindowBuilder::new(app, "main", WebviewUrl::default())
        .title(title)
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
