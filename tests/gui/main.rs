//! The windows, as people use them. Run by `cargo xtask test`, on a desktop that nobody sees.

mod beside;
mod confirmation;
mod desktop;
mod greeted;
mod identity;
mod invitation;
mod presence;
mod protection;
mod server_key;
mod story;
mod troubles;
mod window;
