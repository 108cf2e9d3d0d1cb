//! The page's files: what they are, what a browser may do with them, who serves them.

use crate::fixture::Fixture;
use dataplane::playground::{Fleet, FleetOptions};
use protocol::settings::Page;
use protocol::{ErrorCode, Settings};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

const FILES: [(&str, &str); 5] = [
    ("/", "text/html; charset=utf-8"),
    ("/page/page.js", "text/javascript; charset=utf-8"),
    ("/page/page.css", "text/css; charset=utf-8"),
    ("/page/icon.svg", "image/svg+xml"),
    ("/page/inter.woff2", "font/woff2"),
];

async fn get(base: &str, path: &str, known: Option<&str>) -> Response {
    ask(Method::GET, base, path, known).await
}

async fn ask(method: Method, base: &str, path: &str, known: Option<&str>) -> Response {
    let http = Client::builder().no_proxy().build().unwrap();
    let mut request = http.request(method, format!("{base}{path}"));
    if let Some(tag) = known {
        request = request.header("if-none-match", tag);
    }
    request.send().await.unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

async fn node(enabled: bool) -> (Fixture, String) {
    let settings = Settings { page: Page { enabled }, ..dataplane::playground::settings() };
    let fixture = Fixture::with(settings).await;
    let base = format!("http://{}", fixture.address());
    (fixture, base)
}

async fn playground() -> Fleet {
    Fleet::start(FleetOptions { nodes: 1, ..FleetOptions::default() }).await.unwrap()
}

#[tokio::test]
async fn every_file_has_its_type_and_is_asked_for_again_each_time() {
    let fleet = playground().await;
    for (path, media_type) in FILES {
        let answer = get(&fleet.front_url(), path, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&answer, "content-type"), media_type, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-cache", "{path}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer", "{path}");
        assert!(answer.bytes().await.unwrap().len() > 100, "{path}");
    }
}

#[tokio::test]
async fn a_browser_that_has_the_file_is_not_sent_it_again() {
    let fleet = playground().await;
    let base = fleet.front_url();
    for (path, _) in FILES {
        let first = get(&base, path, None).await;
        let tag = header(&first, "etag").to_owned();
        let listed = format!("\"other\", W/{tag}");
        for known in [tag.as_str(), listed.as_str(), "*"] {
            let again = get(&base, path, Some(known)).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path} {known}");
            assert_eq!(header(&again, "etag"), tag);
            assert!(again.bytes().await.unwrap().is_empty());
        }
        let stale = get(&base, path, Some("\"other\"")).await;
        assert_eq!(stale.status(), StatusCode::OK, "{path}");
        let head = ask(Method::HEAD, &base, path, None).await;
        assert_eq!((head.status(), header(&head, "etag")), (StatusCode::OK, tag.as_str()));
    }
}

#[tokio::test]
async fn the_policy_allows_no_inline_script_and_nothing_from_elsewhere() {
    let fleet = playground().await;
    let (_fixture, base) = node(true).await;
    for (base, connects) in [(fleet.front_url(), "ws://127.0.0.1:*"), (base, "'self'")] {
        let answer = get(&base, "/", None).await;
        let policy = header(&answer, "content-security-policy").to_owned();
        let directive = |name: &str| {
            let found = policy.split("; ").find(|one| one.starts_with(name));
            found.map(|one| one[name.len()..].trim().to_owned()).unwrap_or_default()
        };
        assert_eq!(directive("default-src"), "'none'");
        assert_eq!(directive("script-src"), "'self'");
        assert_eq!(directive("style-src"), "'self'");
        assert_eq!(directive("frame-ancestors"), "'none'");
        assert!(directive("connect-src").contains(connects), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let html = answer.text().await.unwrap();
        assert!(html.contains("<script type=\"module\" src=\"/page/page.js\"></script>"));
        assert_eq!(html.matches("<script").count(), 1, "no other script");
        assert!(!html.contains("<style") && !html.contains(" style="));
        assert!(!html.contains("//"), "nothing comes from elsewhere");
    }
}

#[tokio::test]
async fn a_node_shows_the_page_only_where_it_is_switched_on() {
    let (_fixture, base) = node(true).await;
    for (path, media_type) in FILES {
        let answer = get(&base, path, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&answer, "content-type"), media_type, "{path}");
    }
    let no_dev = get(&base, "/dev/nodes", None).await;
    assert_eq!(no_dev.status(), StatusCode::NOT_FOUND, "the page asks for a token then");
    let (_fixture, base) = node(false).await;
    for (path, _) in FILES {
        let answer = get(&base, path, None).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], serde_json::to_value(ErrorCode::NotFound).unwrap());
    }
}

#[tokio::test]
async fn only_reading_is_answered() {
    let fleet = playground().await;
    let answer = ask(Method::POST, &fleet.front_url(), "/page/page.js", None).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&answer, "content-type"), "application/problem+json");
}
