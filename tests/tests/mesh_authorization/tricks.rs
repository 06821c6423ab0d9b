//! Every way around a policy that is known, each a row.

use super::*;

/// Spellings of what a Deny of `/admin/*` is about, as they stand in a request line.
const AROUND_A_DENY: [&str; 32] = [
    "/admin/x",
    "/admin",
    "/admin/",
    "/admin?x",
    "//admin/x",
    "/admin//x",
    "///admin/x",
    "/./admin/x",
    "/x/../admin/x",
    "/../admin/x",
    "/admin/../admin/x",
    "/%2e/admin/x",
    "/x/%2e%2e/admin/x",
    "/x/.%2E/admin/x",
    "/%61dmin/x",
    "/a%64min/x",
    "/admin%2fx",
    "/admin%2Fx",
    "/x%2f..%2fadmin/x",
    "/%2fadmin/x",
    "/admin%5cx",
    "/admin\\x",
    "/admin;x=1/x",
    "/admin;/x",
    "/;x/admin/x",
    "/x/..;/admin/x",
    "/Admin/x",
    "/ADMIN/x",
    "/%2561dmin/x",
    "/admin%252fx",
    "/%41dmin/x",
    "/admin%00/x",
];

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_a_deny() {
    let origin = origin().await;
    let shop = Shop::of("http", origin.address()).await;
    shop.be_permissive();
    shop.enforce(&[("Deny", "{to: [{paths: [/admin/*]}]}")]).await;
    let plain = async || {
        let answer = client::get(shop.inbound, "/public").await.ok()?;
        (answer.status.as_u16() == 200).then_some(())
    };
    assert!(eventually(PATIENCE, plain).await.is_some(), "plaintext is let in");
    let heads = AROUND_A_DENY.map(|path| format!("GET {path} HTTP/1.1\r\nhost: files"));
    let absolute = [
        "GET http://files/admin/x HTTP/1.1\r\nhost: files",
        "GET http://other.example/admin/x HTTP/1.1\r\nhost: files",
        "GET http://files/./admin/x HTTP/1.1\r\nhost: other.example",
        "get /admin/x HTTP/1.1\r\nhost: files",
        "GET /admin/x HTTP/1.1\r\nhost: public.example\r\nx-original-url: /public\r\nx-rewrite-url: /public",
        "GET /admin/x HTTP/1.0",
    ];
    for head in heads.iter().map(String::as_str).chain(absolute) {
        // Straight to the sidecar of the server, and through that of a caller.
        for address in [shop.inbound, shop.web] {
            let said =
                talk(address, format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
            let status = said.split(' ').nth(1).unwrap_or_default();
            assert!(matches!(status, "403" | "400"), "{head:?} at {address}: {said}");
        }
    }
    for path in AROUND_A_DENY.into_iter().filter(|path| path.parse::<http::Uri>().is_ok()) {
        let answer = call(&shop, &format!("web GET {path}"), Version::HTTP_2).await;
        assert!(matches!(answer.status.as_u16(), 403 | 400), "HTTP/2 {path}: {}", answer.status);
    }
    let arrived = origin.seen();
    assert!(arrived.iter().all(|seen| seen.uri.path() == "/public"), "{arrived:?}");
    for path in ["/x%20y", "/administer", "/a//b", "/x;admin/", "/x?/admin/", "/.well-known/x"] {
        let answer = call(&shop, &format!("web GET {path}"), Version::HTTP_11).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}");
        let arrived = origin.seen().pop().unwrap().uri.path_and_query().unwrap().to_string();
        assert_eq!(arrived, path, "the application gets the path as it was sent");
    }
}

#[tokio::test]
async fn an_allow_holds_only_where_every_reading_is_allowed() {
    let origin = origin().await;
    let shop = Shop::of("http", origin.address()).await;
    shop.enforce(&[("Allow", "{to: [{paths: [/public/*]}]}")]).await;
    for (path, expected) in [
        ("/public/x", 200),
        ("/public/a%20b", 200),
        ("/public/x;v=1", 200),
        ("/public//x", 200),
        ("/public/../admin/x", 403),
        ("/public/%2e%2e/admin/x", 403),
        ("/public/..;/admin/x", 403),
        ("/public/..%2fadmin/x", 403),
        ("/public/..\\admin/x", 403),
        ("//public/x", 403),
        ("/PUBLIC/x", 403),
        ("/public", 403),
        ("/public%2fx", 403),
        ("/public/%zz", 403),
    ] {
        let answer = call(&shop, &format!("web GET {path}"), Version::HTTP_2).await;
        assert_eq!(answer.status.as_u16(), expected, "{path}");
    }
}

#[tokio::test]
async fn nothing_that_a_request_says_of_its_sender_is_believed() {
    let origin = origin().await;
    let shop = Shop::of("http", origin.address()).await;
    shop.be_permissive();
    let who = "x-forwarded-client-cert:URI=spiffe://cluster.local/ns/shop/sa/web";
    shop.enforce(&[("Allow", &format!("{{{WEB}}}"))]).await;
    assert_eq!(call(&shop, "web GET /", Version::HTTP_11).await.status.as_u16(), 200);
    assert_eq!(call(&shop, &format!("batch GET / {who}"), Version::HTTP_11).await.status.as_u16(), 403);
    let plain = async || {
        let answer = call(&shop, &format!("nobody GET / {who}"), Version::HTTP_11).await;
        (answer.reason() == "denied").then_some(())
    };
    assert!(eventually(PATIENCE, plain).await.is_some(), "plaintext has no identity, and is judged");

    shop.enforce(&[("Allow", "{from: [{sourceIps: [10.0.0.0/8]}]}")]).await;
    let addresses = "x-forwarded-for:10.0.0.1 forwarded:for=10.0.0.1 x-real-ip:10.0.0.1";
    assert_eq!(call(&shop, &format!("web GET / {addresses}"), Version::HTTP_2).await.status.as_u16(), 403);
    assert_eq!(
        call(&shop, &format!("nobody GET / {addresses}"), Version::HTTP_11).await.status.as_u16(),
        403
    );

    // A field that Connection names is gone before anybody looks at it, and so is not there for the application either.
    shop.enforce(&[("Deny", "{when: [{header: x-bad}]}")]).await;
    assert_eq!(call(&shop, "nobody GET / x-bad:1", Version::HTTP_11).await.status.as_u16(), 403);
    let named = call(&shop, "nobody GET / x-bad:1 connection:x-bad", Version::HTTP_11).await;
    assert_eq!(named.status.as_u16(), 200);
    assert!(!origin.seen().pop().unwrap().headers.contains_key("x-bad"));
    shop.enforce(&[("Allow", "{when: [{header: x-good, values: ['1']}]}")]).await;
    assert_eq!(call(&shop, "nobody GET / x-good:1", Version::HTTP_11).await.status.as_u16(), 200);
    for fields in
        ["x-good:1 connection:x-good", "x-good:1 connection:X-Good", "x-good:1 x-good:2", "x-good:1,2"]
    {
        let answer = call(&shop, &format!("nobody GET / {fields}"), Version::HTTP_11).await;
        assert_eq!(answer.status.as_u16(), 403, "{fields}");
    }
}
