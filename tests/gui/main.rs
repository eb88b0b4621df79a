//! The windows, as people use them. Run by `cargo xtask test`, on a desktop that nobody sees.

mod desktop;
mod greeted;
mod identity;
mod protection;
mod story;
mod window;
