//! Pieces for other peers: read from the folder as fast as they are taken, and no faster.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::refused;
use super::state::State;
use crate::capability::Granted;
use crate::content::{ContentHash, Outline};
use crate::identity::Fingerprint;
use crate::limits::PIECE_BYTES;
use crate::proto::pieces_reply::Part;
use crate::proto::{self, PiecesReply, PiecesRequest};

/// Pieces that are read before they are taken.
const AHEAD: usize = 2;
/// Values of an outline in one message.
const VALUES_AT_ONCE: usize = PIECE_BYTES / 32;

/// A stream of what was asked for.
pub type PiecesStream = tokio_stream::wrappers::ReceiverStream<Result<PiecesReply, Status>>;

/// Answers a request that the guard has let through.
pub async fn pieces(
    state: &State,
    granted: Option<&Granted>,
    who: Option<Fingerprint>,
    request: &PiecesRequest,
) -> Result<PiecesStream, Status> {
    let hash = ContentHash::try_from(&*request.hash)
        .map_err(|error| refused(Code::InvalidArgument, "BAD_REQUEST", &error.to_string()))?;
    if !granted.is_some_and(|granted| granted.opens(hash)) {
        let message = "the capability is not for this content";
        return Err(refused(Code::PermissionDenied, "NO_CAPABILITY", message));
    }
    let found = Arc::clone(&state.library);
    let content = tokio::task::spawn_blocking(move || found.content(hash)).await;
    let content = content.map_err(|_| Status::unavailable("the peer is ending"))?;
    let (file, outline) = content.ok_or_else(|| {
        refused(Code::NotFound, "NOT_HERE", "this content is not here (any more)")
    })?;
    let last =
        request.first.checked_add(request.count.into()).filter(|last| *last <= outline.pieces());
    let last = last.ok_or_else(|| {
        let message = format!("there are {} pieces", outline.pieces());
        refused(Code::OutOfRange, "BAD_REQUEST", &message)
    })?;
    // The guard lets nobody in without a certificate.
    let is_turn = || who.is_some_and(|who| state.turns.take(hash, who, Instant::now()));
    if request.turn && !is_turn() {
        let message = "others are fetching it from here just now, and will have it soon";
        return Err(refused(Code::ResourceExhausted, "TURN", message));
    }
    let (first, with_outline) = (request.first, request.outline);
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send(file, &outline, with_outline, first..last, &sender) {
            let _ = sender.blocking_send(Err(refused(Code::DataLoss, "IO", &error.to_string())));
        }
    });
    Ok(PiecesStream::new(receiver))
}

/// Ends early where nobody takes it any more.
fn send(
    mut file: std::fs::File,
    outline: &Outline,
    with_outline: bool,
    numbers: std::ops::Range<u64>,
    sender: &mpsc::Sender<Result<PiecesReply, Status>>,
) -> std::io::Result<()> {
    let put = |part| sender.blocking_send(Ok(PiecesReply { part: Some(part) })).is_ok();
    if with_outline {
        let mut rest = outline.values();
        loop {
            let (now, later) = rest.split_at(rest.len().min(VALUES_AT_ONCE));
            let values = Bytes::copy_from_slice(now.as_flattened());
            if !put(Part::Outline(proto::Outline { size: outline.size(), values })) {
                return Ok(());
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
    file.seek(SeekFrom::Start(numbers.start * PIECE_BYTES as u64))?;
    for number in numbers {
        let mut content = vec![0; outline.piece_len(number)];
        file.read_exact(&mut content)?;
        if !put(Part::Piece(proto::Piece { number, content: content.into() })) {
            return Ok(());
        }
    }
    Ok(())
}
