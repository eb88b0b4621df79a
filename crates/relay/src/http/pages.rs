//! The page behind an invitation. It needs no account and tells nothing that the link does not: the
//! fingerprint and who invites stand behind `#`, which browsers send nowhere.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::Visit;

/// Nothing but what this relay serves itself, and no other page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Language {
    #[default]
    En,
    Ko,
}

/// What may stand behind `?`.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    lang: Option<Language>,
}

/// `/` and `/join`
pub(super) async fn join(
    State(visit): State<Visit>,
    wish: Result<Query<Wish>, QueryRejection>,
    headers: HeaderMap,
) -> impl IntoResponse {
    visit.comes_for_a_page();
    let wished = wish.ok().and_then(|Query(wish)| wish.lang);
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let page = match wished.or_else(|| accepted.and_then(preferred)).unwrap_or_default() {
        Language::En => include_str!("pages/join.en.html"),
        Language::Ko => include_str!("pages/join.ko.html"),
    };
    let page = page.replace("{{name}}", &html_escape::encode_text(&visit.context.name));
    asset("text/html; charset=utf-8", page)
}

/// `/join.css`
pub(super) async fn style() -> impl IntoResponse {
    asset("text/css; charset=utf-8", include_str!("pages/join.css"))
}

/// `/join.js`
pub(super) async fn script() -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", include_str!("pages/join.js"))
}

/// `/mildam.svg`
pub(super) async fn icon() -> impl IntoResponse {
    asset("image/svg+xml", include_str!("../../../../icons/mildam.svg"))
}

fn asset<B>(kind: &'static str, body: B) -> ([(HeaderName, &'static str); 6], B) {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-language"),
    ];
    (headers, body)
}

/// The first language that there is a page in. Browsers name those that are wanted more first.
fn preferred(accepted: &str) -> Option<Language> {
    accepted.split(',').find_map(|range| {
        let tag = range.split([';', '-']).next().unwrap_or_default().trim();
        if tag.eq_ignore_ascii_case("ko") {
            Some(Language::Ko)
        } else if tag.eq_ignore_ascii_case("en") {
            Some(Language::En)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_language_that_can_be_served_is() {
        assert_eq!(preferred("ko-KR,ko;q=0.9,en;q=0.8"), Some(Language::Ko));
        assert_eq!(preferred("de, en-GB;q=0.7, ko;q=0.3"), Some(Language::En));
        assert_eq!(preferred("KO"), Some(Language::Ko));
        assert_eq!(preferred("kok, *"), None);
        assert_eq!(preferred(""), None);
    }
}
