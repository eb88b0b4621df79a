//! The server link: where a relay is and which key it must prove. An invitation adds whom to ask
//! there, and what lets somebody in.

use std::fmt;
use std::str::FromStr;

use mildam_records::AccountId;
use mildam_records::id::{ClientMessageId, Hash};

/// The port of an `https` link that names none.
const HTTPS_PORT: u16 = 443;
/// The page of a relay that an `https` link opens where the app is not installed.
const PAGE: &str = "/join";

/// `mildam://host:port/#fingerprint`.
///
/// The fingerprint is SHA-256 over the SubjectPublicKeyInfo of the relay's server key, in
/// base64url (43 characters). It stands in the fragment, which no browser sends anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLink {
    host: String,
    port: u16,
    fingerprint: Hash,
}

/// A server link, the account that gave it away, if one did, and what lets in whom it is given to.
///
/// Written as `mildam://host:port/#fingerprint[/account]`, which opens the app, or as
/// `https://host[:port]/join#fingerprint[/account]`, which opens a page where the app is not
/// installed. With a token it ends in `/[account]/token`. The fragment goes to no server in either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The relay.
    pub link: ServerLink,
    /// Who invites.
    pub account: Option<AccountId>,
    /// What lets one person sign up where people come in by invitation.
    pub token: Option<InvitationToken>,
}

/// 16 random bytes, written in base64url (22 characters): who has them can sign up, once, at the relay that
/// made them.
// It names no message: the bytes of those are as many, and written the same way.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationToken(ClientMessageId);

impl InvitationToken {
    /// Takes 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(ClientMessageId::from_bytes(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for InvitationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for InvitationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationToken(..)")
    }
}

impl FromStr for InvitationToken {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        text.parse().map(Self).map_err(|_| LinkError::Token)
    }
}

/// Why a text is not a server link or an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It begins neither with `mildam://` nor, as an invitation can, with `https://`.
    #[error("a server link begins with mildam://")]
    Scheme,
    /// An `https` link to another page than `/join`.
    #[error("a web link is an invitation only as https://host/join#fingerprint")]
    Page,
    /// Host or port are missing or not usable.
    #[error("the link needs a host and a port, as in mildam://host:port/#fingerprint")]
    Address,
    /// The fingerprint is missing or not 43 characters of base64url.
    #[error("the link has no usable fingerprint after the #; copy it whole")]
    Fingerprint,
    /// What follows the fingerprint is not the id of an account.
    #[error("what follows the fingerprint is not an account's id")]
    Account,
    /// The token is not 22 characters of base64url.
    #[error("the invitation at the end is not whole; copy the link to its end")]
    Token,
}

impl ServerLink {
    /// A link from its parts. `host` is a name, an IPv4 address, or an IPv6 address without
    /// brackets.
    ///
    /// # Errors
    /// [`LinkError::Address`] for a host that cannot stand in a link.
    pub fn new(host: &str, port: u16, fingerprint: Hash) -> Result<Self, LinkError> {
        match host_name(host) {
            Some(host) if port != 0 => Ok(Self { host, port, fingerprint }),
            _ => Err(LinkError::Address),
        }
    }

    /// Host, without brackets, in the one form of [`host_name`].
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// SHA-256 over the server key's SubjectPublicKeyInfo.
    #[must_use]
    pub const fn fingerprint(&self) -> &Hash {
        &self.fingerprint
    }

    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn address(&self) -> String {
        self.address_of(&self.host)
    }

    /// The same for people: a name with letters beyond ASCII as they write it.
    #[must_use]
    pub fn shown_address(&self) -> String {
        match idna::domain_to_unicode(&self.host) {
            (shown, Ok(())) => self.address_of(&shown),
            _ => self.address(),
        }
    }

    fn address_of(&self, host: &str) -> String {
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for ServerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mildam://{}/#{}", self.address(), self.fingerprint)
    }
}

/// A host in the one form in which names are compared, looked up and certified: ASCII (UTS 46, so 밀담.한국 is
/// xn--...), lower case, without the dot that may stand at the end; addresses as they are. None for what is no
/// host, or has more than 253 characters.
#[must_use]
pub fn host_name(text: &str) -> Option<String> {
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(text.to_ascii_lowercase());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let name = if name.is_ascii() { name.to_ascii_lowercase() } else { idna::domain_to_ascii(name).ok()? };
    let fits = !name.is_empty()
        && !name.ends_with('.')
        && name.len() <= 253
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_'));
    fits.then_some(name)
}

impl FromStr for ServerLink {
    type Err = LinkError;

    /// Reads a link, also out of what people paste: with words, brackets or quotes around it, broken over lines,
    /// or with `%23` for `#`.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let pasted = pasted(text);
        let (scheme, rest) = split_scheme(pasted.as_deref().unwrap_or(text))?;
        if scheme != Scheme::Mildam {
            return Err(LinkError::Scheme);
        }
        let (address, fingerprint) = rest.split_once('#').ok_or(LinkError::Fingerprint)?;
        read_link(scheme, address, fingerprint)
    }
}

impl Invitation {
    /// The form that a browser opens, at the relay's own host and port.
    #[must_use]
    pub fn to_https(&self) -> String {
        let address = self.link.address();
        let address = match self.link.port {
            HTTPS_PORT => address.strip_suffix(":443").unwrap_or(&address),
            _ => &address,
        };
        format!("https://{address}{PAGE}#{}", self.fragment())
    }

    fn fragment(&self) -> String {
        let (fingerprint, account) = (&self.link.fingerprint, self.account.as_ref().map(AccountId::as_str));
        match (account, &self.token) {
            (None, None) => fingerprint.to_string(),
            (Some(account), None) => format!("{fingerprint}/{account}"),
            (account, Some(token)) => format!("{fingerprint}/{}/{token}", account.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mildam://{}/#{}", self.link.address(), self.fragment())
    }
}

impl FromStr for Invitation {
    type Err = LinkError;

    /// Reads either form, with or without account and token, out of what people paste as [`ServerLink`] does.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let pasted = pasted(text);
        let (scheme, rest) = split_scheme(pasted.as_deref().unwrap_or(text))?;
        let (address, fragment) = rest.split_once('#').ok_or(LinkError::Fingerprint)?;
        let mut parts = fragment.splitn(3, '/');
        let link = read_link(scheme, address, parts.next().unwrap_or_default())?;
        let (account, token) = (parts.next(), parts.next());
        // Where a token stands there may be nobody before it.
        let account = account.filter(|account| token.is_none() || !account.is_empty());
        let account = account.map(|account| account.parse().map_err(|_| LinkError::Account)).transpose()?;
        let token = token.map(str::parse::<InvitationToken>).transpose()?;
        Ok(Self { link, account, token })
    }
}

/// Characters of a fingerprint.
const FINGERPRINT: usize = 43;
/// Characters of a token.
const TOKEN: usize = 22;
/// More than any link, in characters.
const LONGEST: usize = 400;

/// The link in a text: from its scheme on, without what cannot be seen and without the white space that breaks it
/// over lines, up to the end of the fingerprint, and of the account and the token behind it. None if there is
/// none.
fn pasted(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let begin = ["mildam://", "https://"].iter().filter_map(|scheme| lower.find(scheme)).min()?;
    let text = text.get(begin..)?.replace("%23", "#");
    let seen = |c: &char| !matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{ad}');
    let mut rest = text.chars().filter(seen).take(LONGEST).peekable();
    let mut link = String::new();
    while let Some(c) = rest.next_if(|c| *c != '#') {
        if !c.is_whitespace() {
            link.push(c);
        }
    }
    link.push(rest.next()?);
    let mut found = 0;
    while found < FINGERPRINT {
        let c = rest.next()?;
        if !c.is_whitespace() {
            link.push(c);
            found += 1;
        }
    }
    push_tail(&mut link, &rest.collect::<String>());
    Some(link)
}

/// Adds what follows the fingerprint: an account, up to what no account has, and a token, over as many lines
/// as it is broken.
fn push_tail(link: &mut String, tail: &str) {
    let ends = |c: char| c.is_whitespace() || "<>()[]{}\"'“”‘’«»「」『』,;".contains(c);
    // A line may have ended where the fingerprint does.
    let next_line = tail.starts_with(['\r', '\n']).then(|| tail.trim_start());
    let tail = next_line.filter(|next| next.starts_with("//")).unwrap_or(tail);
    let Some(rest) = tail.strip_prefix('/') else { return };
    let account: String = rest.chars().take_while(|c| *c != '/' && !ends(*c)).collect();
    link.push('/');
    link.push_str(&account);
    let token = rest.strip_prefix(account.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let Some(token) = token else { return };
    let written = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    link.push('/');
    link.extend(token.chars().filter(|c| !c.is_whitespace()).take_while(written).take(TOKEN));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Mildam,
    Https,
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), LinkError> {
    let (scheme, rest) = text.trim().split_once("://").ok_or(LinkError::Scheme)?;
    if scheme.eq_ignore_ascii_case("mildam") {
        Ok((Scheme::Mildam, rest))
    } else if scheme.eq_ignore_ascii_case("https") {
        Ok((Scheme::Https, rest))
    } else {
        Err(LinkError::Scheme)
    }
}

/// Reads what stands before and behind the `#`.
fn read_link(scheme: Scheme, address: &str, fingerprint: &str) -> Result<ServerLink, LinkError> {
    let (address, missing_port) = match scheme {
        Scheme::Mildam => (address.strip_suffix('/').unwrap_or(address), None),
        Scheme::Https => (address.strip_suffix(PAGE).ok_or(LinkError::Page)?, Some(HTTPS_PORT)),
    };
    let fingerprint = fingerprint.parse().map_err(|_| LinkError::Fingerprint)?;
    let (host, port) = split_address(address)?;
    let port = match port {
        Some(port) => port.parse().map_err(|_| LinkError::Address)?,
        None => missing_port.ok_or(LinkError::Address)?,
    };
    ServerLink::new(host, port, fingerprint)
}

/// Host without brackets, and the port's digits if there is one.
fn split_address(address: &str) -> Result<(&str, Option<&str>), LinkError> {
    if let Some(bracketed) = address.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(LinkError::Address)?;
        return match (rest, rest.strip_prefix(':')) {
            ("", _) => Ok((host, None)),
            (_, Some(port)) => Ok((host, Some(port))),
            _ => Err(LinkError::Address),
        };
    }
    match address.split_once(':') {
        // An IPv6 address without brackets: where its port begins, nobody can tell.
        Some((_, port)) if port.contains(':') => Err(LinkError::Address),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((address, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn links_read_back_as_they_were_written() {
        for host in ["relay.example.org", "127.0.0.1", "::1", "fe80::1"] {
            let link = ServerLink::new(host, 7747, Hash::from_bytes([9; 32])).unwrap();
            assert_eq!(link.to_string().parse(), Ok(link.clone()));
            assert_eq!(format!("  {link}\n").parse(), Ok(link));
        }
    }

    #[test]
    fn a_link_is_found_in_what_people_paste() {
        let link = ServerLink::new("relay.example.org", 7747, Hash::from_bytes([9; 32])).unwrap();
        let written = link.to_string();
        let (first, last) = written.split_at(40);
        for pasted in [
            format!("<{written}>"),
            format!("{written}."),
            format!("\u{201c}{written}\u{201d}"),
            format!("\u{200b}{written}\u{200b}"),
            format!("\u{a0}{written}\u{a0}"),
            format!("{first}\n{last}"),
            format!("{first}\r\n  {last}"),
            format!("여기로 오세요: {written} 고마워요!"),
            format!("[the relay]({written})"),
            written.replace('#', "%23"),
            written.replace("/#", "#"),
            written.replacen("mildam", "Mildam", 1),
            written.replace("example.org", "example.org."),
        ] {
            assert_eq!(pasted.parse::<ServerLink>(), Ok(link.clone()), "{pasted:?}");
            let invitation = Invitation { link: link.clone(), account: None, token: None };
            assert_eq!(pasted.parse::<Invitation>(), Ok(invitation), "{pasted:?}");
        }
        let named = Invitation { link, account: Some("alice".parse().unwrap()), token: None };
        assert_eq!(format!("({named}), bye").parse::<Invitation>(), Ok(named));
    }

    #[test]
    fn a_token_is_found_in_what_people_paste() {
        let link = ServerLink::new("relay.example.org", 7747, Hash::from_bytes([9; 32])).unwrap();
        let token = InvitationToken::from_bytes([0xf7; 16]);
        let written = token.to_string();
        assert_eq!(written.len(), TOKEN);
        let (first, last) = written.split_at(9);
        for account in [None, Some("alice".parse().unwrap())] {
            let invitation = Invitation { link: link.clone(), account, token: Some(token.clone()) };
            for text in [invitation.to_string(), invitation.to_https().replacen("org", "ORG", 1)] {
                for pasted in [
                    format!("<{text}>."),
                    format!("{text}, 고마워요"),
                    format!("{text} 고마워요"),
                    text.replace('#', "%23"),
                    text.replace(&written, &format!("{first}\n{last}")),
                    text.replace(&format!("/{written}"), &format!("/\r\n  {written}")),
                ] {
                    assert_eq!(pasted.parse::<Invitation>(), Ok(invitation.clone()), "{pasted:?}");
                }
            }
            let after = text_broken_after_the_fingerprint(&invitation);
            assert!(
                invitation.account.is_some() || after.parse::<Invitation>() == Ok(invitation),
                "{after:?}"
            );
        }
    }

    fn text_broken_after_the_fingerprint(invitation: &Invitation) -> String {
        let fingerprint = invitation.link.fingerprint().to_string();
        invitation.to_string().replace(&fingerprint, &format!("{fingerprint}\n"))
    }

    #[test]
    fn a_token_is_shown_by_nothing_but_its_text() {
        let token = InvitationToken::from_bytes([9; 16]);
        assert_eq!(format!("{token:?}"), "InvitationToken(..)");
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn a_host_may_have_letters_of_any_script() {
        let link = ServerLink::new("밀담.Example", 7747, Hash::from_bytes([9; 32])).unwrap();
        assert_eq!(link.host(), "xn--jk1bo5o.example");
        assert_eq!(link.shown_address(), "밀담.example:7747");
        let typed = link.to_string().replace("xn--jk1bo5o", "밀담");
        assert_eq!(typed.parse::<ServerLink>(), Ok(link));
        for (name, host) in [
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("localhost.", Some("localhost")),
            ("FE80::1", Some("fe80::1")),
            (".", None),
            ("a..", None),
            ("", None),
            ("a b", None),
            ("relay:7747", None),
            ("https://relay", None),
        ] {
            assert_eq!(host_name(name).as_deref(), host, "{name}");
        }
    }

    #[test]
    fn what_is_not_a_link_is_told_apart() {
        let fingerprint = Hash::from_bytes([9; 32]).to_string();
        let read = |text: &str| text.parse::<ServerLink>();
        assert_eq!(read("relay.example.org"), Err(LinkError::Scheme));
        assert_eq!(read("https://a:1/#x"), Err(LinkError::Scheme));
        assert_eq!(read("mildam://a:1"), Err(LinkError::Fingerprint));
        assert_eq!(read("mildam://a:1/#abc"), Err(LinkError::Fingerprint));
        for address in ["", "a", "a:", "a:0", "a:70000", "a/b:1", "::1:5", "[::1:5", ":5"] {
            let text = format!("mildam://{address}/#{fingerprint}");
            assert_eq!(read(&text), Err(LinkError::Address), "{text}");
        }
    }

    #[test]
    fn an_invitation_is_read_in_both_forms() {
        let fingerprint = Hash::from_bytes([9; 32]);
        let read = |text: String| text.parse::<Invitation>().unwrap();
        let link = |port| ServerLink::new("relay.example.org", port, fingerprint).unwrap();
        let alice = Some("alice".parse().unwrap());

        let plain = read(format!("mildam://relay.example.org:7747/#{fingerprint}"));
        assert_eq!(plain, Invitation { link: link(7747), account: None, token: None });
        let named = read(format!(" MILDAM://Relay.Example.org:7747#{fingerprint}/alice\n"));
        assert_eq!(named, Invitation { link: link(7747), account: alice.clone(), token: None });
        let page = read(format!("https://relay.example.org/join#{fingerprint}/alice"));
        assert_eq!(page, Invitation { link: link(443), account: alice.clone(), token: None });
        assert_eq!(page.to_https(), format!("https://relay.example.org/join#{fingerprint}/alice"));
        let port = read(format!("HTTPS://relay.example.org:7747/join#{fingerprint}"));
        assert_eq!(port, plain);
        assert_eq!(port.to_https(), format!("https://relay.example.org:7747/join#{fingerprint}"));
        let version6 = read(format!("https://[::1]/join#{fingerprint}"));
        assert_eq!((version6.link.host(), version6.link.port()), ("::1", 443));
        assert_eq!(version6.to_https(), format!("https://[::1]/join#{fingerprint}"));
        let token = InvitationToken::from_bytes([7; 16]);
        let given = read(format!("https://relay.example.org/join#{fingerprint}/alice/{token}"));
        assert_eq!(given, Invitation { link: link(443), account: alice, token: Some(token.clone()) });
        let unnamed = Invitation { account: None, ..given };
        assert_eq!(unnamed.to_string(), format!("mildam://relay.example.org:443/#{fingerprint}//{token}"));
    }

    #[test]
    fn what_is_not_an_invitation_is_told_apart() {
        let fingerprint = Hash::from_bytes([9; 32]).to_string();
        let read = |text: &str| text.parse::<Invitation>();
        assert_eq!(read("alice"), Err(LinkError::Scheme));
        assert_eq!(read("http://a/join#x"), Err(LinkError::Scheme));
        assert_eq!(read("https://a/join"), Err(LinkError::Fingerprint));
        assert_eq!(read("https://a/join#abc/alice"), Err(LinkError::Fingerprint));
        for page in ["", "/", "/join/", "/joinus", "/join?x=1"] {
            assert_eq!(read(&format!("https://a{page}#{fingerprint}")), Err(LinkError::Page), "{page}");
        }
        for address in ["", ":1", "a:", "a:0", "a/b", "u@a", "::1", "[::1", "[::1]x", "[a]:1:2"] {
            let text = format!("https://{address}/join#{fingerprint}");
            assert_eq!(read(&text), Err(LinkError::Address), "{text}");
        }
        for account in ["", "x", "Alice", "alice?x", "Alice/AAAAAAAAAAAAAAAAAAAAAA"] {
            let text = format!("mildam://a:1/#{fingerprint}/{account}");
            assert_eq!(read(&text), Err(LinkError::Account), "{text}");
        }
        for token in ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAA/AAAAAAAAAA"] {
            for account in ["", "alice"] {
                let text = format!("mildam://a:1/#{fingerprint}/{account}/{token}");
                assert_eq!(read(&text), Err(LinkError::Token), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_invitation_reads_back_as_it_was_written(
            host in "[a-z0-9]([a-z0-9._-]{0,29}[a-z0-9_-])?|::[0-9a-f]{1,4}",
            port in 1..=u16::MAX,
            fingerprint: [u8; 32],
            account in proptest::option::of("[a-z][a-z0-9_.]{2,31}"),
            token: Option<[u8; 16]>,
        ) {
            let link = ServerLink::new(&host, port, Hash::from_bytes(fingerprint)).unwrap();
            let account = account.map(|account| account.parse().unwrap());
            let token = token.map(InvitationToken::from_bytes);
            let invitation = Invitation { link, account, token };
            prop_assert_eq!(invitation.to_string().parse(), Ok(invitation.clone()));
            prop_assert_eq!(invitation.to_https().parse(), Ok(invitation));
        }

        #[test]
        fn whatever_is_read_is_written_the_same_way_again(
            text in "(mildam|https|.{0,8})(://)?.{0,12}(:[0-9]{0,6})?(/join|/)?#?.{0,50}|.{0,80}",
        ) {
            if let Ok(invitation) = text.parse::<Invitation>() {
                prop_assert_eq!(invitation.to_string().parse(), Ok(invitation));
            }
            if let Ok(link) = text.parse::<ServerLink>() {
                prop_assert_eq!(link.to_string().parse(), Ok(link));
            }
        }
    }
}
