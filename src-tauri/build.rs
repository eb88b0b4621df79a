//! Prepares the desktop app for compilation.

fn main() {
    // A fresh clone has no built UI yet; `cargo check` must work all the same.
    if let Err(error) = std::fs::create_dir_all("ui/dist") {
        println!("cargo::warning=ui/dist cannot be made: {error}");
    }
    let attributes = tauri_build::Attributes::new().capabilities_path_pattern("src-tauri/capabilities/**/*");
    if let Err(error) = tauri_build::try_build(attributes) {
        println!("cargo::error={error:#}");
    }
}
