//! The chat page (protocol section 6): its files, as the build of `dataplane/page` left them in
//! `page/`, and what a browser may do with them. Nodes serve it where `page.enabled`; the playground
//! always.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A file of the page.
struct Asset {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 5] = [
    Asset {
        path: "/",
        media_type: "text/html; charset=utf-8",
        bytes: include_bytes!("page/index.html"),
    },
    Asset {
        path: "/page/page.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("page/page.js"),
    },
    Asset {
        path: "/page/page.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!("page/page.css"),
    },
    Asset {
        path: "/page/icon.svg",
        media_type: "image/svg+xml",
        bytes: include_bytes!("page/icon.svg"),
    },
    Asset {
        path: "/page/inter.woff2",
        media_type: "font/woff2",
        bytes: include_bytes!("page/inter.woff2"),
    },
];

/// Where the page may connect to, besides the server it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nowhere: a node serves it.
    Itself,
    /// Every port of this machine: the playground's nodes are there.
    ThisMachine,
}

impl Reach {
    /// `connect-src` of the Content-Security-Policy; `'self'` includes the WebSocket of the same host
    /// and port (CSP 3, section 6.7.2.8).
    const fn sources(self) -> &'static str {
        match self {
            Self::Itself => "'self'",
            Self::ThisMachine => {
                "'self' http://127.0.0.1:* ws://127.0.0.1:* http://localhost:* ws://localhost:*"
            }
        }
    }

    /// Nothing inline and nothing from elsewhere, so that an answer that gets past the sanitiser
    /// still runs nothing. Styles of elements are set by script alone, which needs no exception.
    fn policy(self) -> String {
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; \
             img-src 'self' data:; connect-src {}; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; \
             trusted-types chatcluster dompurify",
            self.sources()
        )
    }
}

/// The routes of the page.
pub fn router<S: Clone + Send + Sync + 'static>(reach: Reach) -> Router<S> {
    // Text of this file: it is a header value, and the tests see that it is sent.
    let policy = HeaderValue::from_str(&reach.policy()).ok();
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = HeaderValue::from_str(&tag(asset.bytes)).ok();
        let policy = policy.clone();
        let handler = async move |request: Request| serve(asset, tag, policy, request.headers());
        router.route(asset.path, get(handler))
    })
}

/// Names the content: another one has another tag.
fn tag(bytes: &[u8]) -> String {
    format!("\"{:08x}-{:x}\"", crc32fast::hash(bytes), bytes.len())
}

/// A copy may be kept, but is asked for each time: a node that was rolled serves a new page at once.
fn serve(
    asset: &'static Asset,
    tag: Option<HeaderValue>,
    policy: Option<HeaderValue>,
    asked: &HeaderMap,
) -> Response {
    let known = tag.as_ref().is_some_and(|tag| is_known(tag, asked));
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => asset.bytes.into_response(),
    };
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    let fixed = |value: &'static str| Some(HeaderValue::from_static(value));
    set(CONTENT_TYPE, fixed(asset.media_type).filter(|_| !known));
    set(ETAG, tag);
    set(CACHE_CONTROL, fixed("no-cache"));
    set(CONTENT_SECURITY_POLICY, policy);
    set(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    set(REFERRER_POLICY, fixed("no-referrer"));
    response
}

/// RFC 9110, section 13.1.2; a proxy that compresses makes the tag a weak one.
fn is_known(tag: &HeaderValue, asked: &HeaderMap) -> bool {
    let listed = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.trim_start_matches("W/").as_bytes() == tag.as_bytes()
    })
}
