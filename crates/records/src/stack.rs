//! The stack behind secrets.

/// Bytes that are overwritten: more than ciphers and the reading of keys need.
const SCRUBBED: usize = 64 * 1024;

/// Does something with keys, and overwrites the stack behind it. What is moved is copied, and where registers
/// run out, so are the keys in them; nothing else erases these copies.
pub fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    scrub();
    done
}

#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn scrub() {
    // Not a constant, which would lie elsewhere.
    let mut stack = [0_u8; SCRUBBED];
    std::hint::black_box(&mut stack);
}
