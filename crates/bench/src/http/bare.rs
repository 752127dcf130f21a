//! The bare axum handler that posts are compared with: reads the body and answers as much JSON as a receipt is.

use anyhow::Result;
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;

/// As long as a receipt that is complete.
#[derive(Serialize)]
struct Answer {
    group: &'static str,
    seq: usize,
    epoch: u32,
    members: u32,
    confirmed: u32,
    reached: u32,
    missing: [u32; 0],
    r#final: bool,
    stored: &'static str,
    elapsed_ms: f64,
}

async fn answer(body: String) -> Json<Answer> {
    Json(Answer {
        group: "bench",
        seq: body.len(),
        epoch: 1,
        members: 0,
        confirmed: 0,
        reached: 0,
        missing: [],
        r#final: true,
        stored: "memory",
        elapsed_ms: 0.1,
    })
}

/// Serves on a free port, and says which.
pub async fn serve() -> Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http    {}", listener.local_addr()?);
    let app = Router::new().route("/api/groups/{group}/messages", post(answer));
    Ok(axum::serve(listener, app).await?)
}
