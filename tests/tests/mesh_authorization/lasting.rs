//! What outlives a request: opaque connections, tunnels and kept connections, before and after a change.

use super::*;

/// Whether a connection answers, or was closed.
async fn echoes(stream: &mut TcpStream) -> bool {
    let mut heard = [0];
    stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut heard).await.is_ok()
}

/// Resolves when the peer has closed.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn opaque_connections_are_let_in_refused_and_cut_by_policy() {
    let echo = TcpEcho::start(ANY, b"").await.unwrap();
    let shop = Shop::of("tcp", echo.address()).await;
    let mut before = TcpStream::connect(shop.batch).await.unwrap();
    assert!(echoes(&mut before).await, "without a policy everybody in the mesh is let in");

    shop.enforce(&[("Allow", &format!("{{{WEB}}}"))]).await;
    assert!(closed(&mut before).await, "a connection that the new policy does not name is cut");
    let (mut web, mut batch) =
        (TcpStream::connect(shop.web).await.unwrap(), TcpStream::connect(shop.batch).await.unwrap());
    assert!(echoes(&mut web).await);
    assert!(!echoes(&mut batch).await);
    let cut = ["reason=\"denied\"", "direction=\"inbound\""];
    let counted =
        metric(&shop.files, "/metrics", "outrigger_tcp_connections_closed_total", &cut).await.unwrap();
    assert!((counted - 2.0).abs() < 0.1, "{counted}");

    shop.enforce(&[("Allow", "{from: [{namespaces: [shop]}]}")]).await;
    assert!(echoes(&mut web).await, "a change that still lets it in leaves it alone");
    // What only requests have cannot be fulfilled by bytes, and is feared in them.
    shop.enforce(&[("Deny", "{to: [{paths: [/admin/*]}]}")]).await;
    assert!(closed(&mut web).await);
    let said = shop.files.stderr();
    assert!(
        said.contains("a connection was cut") && said.contains("spiffe://cluster.local/ns/shop/sa/web"),
        "{said}"
    );
}

#[tokio::test]
async fn a_change_is_applied_to_kept_connections_and_to_tunnels() {
    let origin = origin().await;
    let shop = Shop::of("http", origin.address()).await;
    let mut kept = Client::connect(shop.web, Version::HTTP_2).await.unwrap();
    assert_eq!(kept.get("/a").await.unwrap().status.as_u16(), 200);
    let mut tunnels = Vec::new();
    for path in ["/chat", "/admin/chat"] {
        let mut stream = TcpStream::connect(shop.web).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: files\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = read_until(&mut stream, "early").await.unwrap();
        assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
        tunnels.push(stream);
    }
    shop.enforce(&[("Deny", "{to: [{paths: [/a, /admin/*]}]}")]).await;
    assert_eq!(kept.get("/a").await.unwrap().status.as_u16(), 403);
    assert_eq!(kept.get("/b").await.unwrap().status.as_u16(), 200);
    assert!(closed(&mut tunnels[1]).await, "a tunnel that would not be opened any more is cut");
    assert!(echoes(&mut tunnels[0]).await);
}
