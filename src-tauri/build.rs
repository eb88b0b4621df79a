//! Prepares the desktop app for compilation.
fn main() {
    std::fs::create_dir_all("ui/dist").ok();
}
