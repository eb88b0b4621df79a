//! The system packages that building and testing need, and what they are called where.

use std::process::Command;

use anyhow::{Result, bail};

use crate::doctor;
use crate::shell::{find, output, sh};

/// What a package is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To compile the workspace.
    Build,
    /// To run the tests that open windows.
    Test,
}

/// How one can tell that a package is there.
#[derive(Clone, Copy)]
enum Sign {
    /// pkg-config knows this library.
    Library(&'static str),
    /// This program is on the PATH.
    Program(&'static str),
    /// One of these files exists.
    File(&'static [&'static str]),
    /// fontconfig knows a font for this language.
    Font(&'static str),
    /// There is a Python that can make virtual environments.
    Python,
}

/// A package, by its name in each family of Linux systems.
pub struct Package {
    /// What it is needed for.
    pub need: Need,
    /// What it does for us.
    pub purpose: &'static str,
    /// Debian, Ubuntu.
    pub apt: &'static str,
    /// Fedora.
    pub dnf: &'static str,
    /// Arch.
    pub pacman: &'static str,
    sign: Sign,
}

impl Package {
    const fn new(need: Need, purpose: &'static str, names: [&'static str; 3], sign: Sign) -> Self {
        let [apt, dnf, pacman] = names;
        Self { need, purpose, apt, dnf, pacman, sign }
    }

    /// Whether it is installed.
    pub fn is_here(&self) -> bool {
        match self.sign {
            Sign::Library(name) => output(Command::new("pkg-config").args(["--modversion", name])).is_some(),
            Sign::Program(name) => find(name).is_some(),
            Sign::File(paths) => paths.iter().any(|path| std::path::Path::new(path).exists()),
            Sign::Font(language) => {
                let language = format!(":lang={language}");
                output(Command::new("fc-list").arg(language)).is_some_and(|fonts| !fonts.trim().is_empty())
            }
            Sign::Python => doctor::find_python().is_ok(),
        }
    }
}

/// All of them, on Linux.
pub const PACKAGES: &[Package] = &[
    Package::new(Need::Build, "C compiler", ["build-essential", "gcc", "base-devel"], Sign::Program("cc")),
    Package::new(
        Need::Build,
        "finds libraries",
        ["pkg-config", "pkgconf-pkg-config", "pkgconf"],
        Sign::Program("pkg-config"),
    ),
    Package::new(
        Need::Build,
        "web view of the desktop app",
        ["libwebkit2gtk-4.1-dev", "webkit2gtk4.1-devel", "webkit2gtk-4.1"],
        Sign::Library("webkit2gtk-4.1"),
    ),
    Package::new(
        Need::Build,
        "D-Bus, for the desktop app",
        ["libdbus-1-dev", "dbus-devel", "dbus"],
        Sign::Library("dbus-1"),
    ),
    Package::new(
        Need::Build,
        "icons",
        ["librsvg2-dev", "librsvg2-devel", "librsvg"],
        Sign::Library("librsvg-2.0"),
    ),
    Package::new(
        Need::Test,
        "drives a window",
        ["webkit2gtk-driver", "webkit2gtk4.1", "webkit2gtk-4.1"],
        Sign::Program("WebKitWebDriver"),
    ),
    Package::new(
        Need::Test,
        "a display without a screen",
        ["xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb"],
        Sign::Program("Xvfb"),
    ),
    Package::new(Need::Test, "a message bus", ["dbus-x11", "dbus-x11", "dbus"], Sign::Program("dbus-daemon")),
    Package::new(Need::Test, "a window manager", ["openbox"; 3], Sign::Program("openbox")),
    Package::new(Need::Test, "refuses system calls", ["strace"; 3], Sign::Program("strace")),
    Package::new(Need::Test, "another TLS", ["openssl"; 3], Sign::Program("openssl")),
    Package::new(
        Need::Test,
        "a load balancer",
        ["haproxy"; 3],
        // Most people's PATH does not lead there.
        Sign::File(&["/usr/sbin/haproxy", "/usr/bin/haproxy"]),
    ),
    Package::new(
        Need::Test,
        "a scanner of TLS",
        ["testssl.sh", "testssl", "testssl.sh"],
        Sign::Program("testssl"),
    ),
    Package::new(Need::Test, "types keys", ["xdotool"; 3], Sign::Program("xdotool")),
    Package::new(
        Need::Test,
        "takes screenshots",
        ["imagemagick", "ImageMagick", "imagemagick"],
        Sign::Program("import"),
    ),
    Package::new(
        Need::Test,
        "Korean letters",
        ["fonts-noto-cjk", "google-noto-sans-cjk-fonts", "noto-fonts-cjk"],
        Sign::Font("ko"),
    ),
    Package::new(Need::Test, "input methods", ["ibus"; 3], Sign::Program("ibus-daemon")),
    Package::new(
        Need::Test,
        "Korean input",
        ["ibus-hangul"; 3],
        Sign::File(&["/usr/share/ibus/component/hangul.xml"]),
    ),
    Package::new(
        Need::Test,
        "input methods in GTK windows",
        ["ibus-gtk3", "ibus-gtk3", "ibus"],
        Sign::File(&[
            "/usr/lib/x86_64-linux-gnu/gtk-3.0/3.0.0/immodules/im-ibus.so",
            "/usr/lib/aarch64-linux-gnu/gtk-3.0/3.0.0/immodules/im-ibus.so",
            "/usr/lib64/gtk-3.0/3.0.0/immodules/im-ibus.so",
            "/usr/lib/gtk-3.0/3.0.0/immodules/im-ibus.so",
        ]),
    ),
    Package::new(Need::Test, "a keyring", ["gnome-keyring"; 3], Sign::Program("gnome-keyring-daemon")),
    Package::new(
        Need::Test,
        "the second implementation",
        ["python3-venv", "python3", "python"],
        Sign::Python,
    ),
];

/// What is not installed of what is needed.
pub fn missing(needs: &[Need]) -> Vec<&'static Package> {
    PACKAGES.iter().filter(|package| needs.contains(&package.need) && !package.is_here()).collect()
}

/// Installs what is missing with apt, as root or through sudo. On other systems it says what to
/// install, and fails.
pub fn install(needs: &[Need]) -> Result<()> {
    if !cfg!(target_os = "linux") {
        // macOS and Windows bring everything along but the compiler, which Rust itself asked for.
        return Ok(());
    }
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let names = |name: fn(&Package) -> &'static str| {
        missing.iter().map(|package| name(package)).collect::<Vec<_>>().join(" ")
    };
    if find("apt-get").is_none() {
        bail!(
            "please install these packages, then try again\n  \
             Fedora: sudo dnf install {}\n  Arch: sudo pacman -S {}\n  Debian, Ubuntu: sudo apt install {}",
            names(|package| package.dnf),
            names(|package| package.pacman),
            names(|package| package.apt),
        );
    }
    println!("Installing what is missing:");
    for package in &missing {
        println!("  {:24} {}", package.apt, package.purpose);
    }
    sh(&mut apt(&["update", "-qq"]))?;
    let mut install = apt(&["install", "-qq", "--yes", "--no-install-recommends"]);
    sh(install.args(missing.iter().map(|package| package.apt)))?;
    match self::missing(needs).first() {
        None => Ok(()),
        Some(package) => bail!("{} was installed, but {} is still missing", package.apt, package.purpose),
    }
}

fn apt(arguments: &[&str]) -> Command {
    let root = output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    let mut command = Command::new(if root { "env" } else { "sudo" });
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    command
}
