//! Saving a folder for one's own client: file by file into a hidden folder, which gets its name when everything is there.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::own::{bad, of_io, own_folder};
use super::refused;
use super::state::State;
use crate::blocking::blocking;
use crate::content::ContentHash;
use crate::library::Library;
use crate::limits::{FILE_BYTES_MAX, FOLDER_FILES_MAX};
use crate::manifest::BadManifest;
use crate::names::{BadName, FileName};
use crate::proto::save_folder_request::Part;
use crate::proto::{SaveFileHead, SaveFileReply, SaveFolderHead, SaveFolderRequest};
use crate::staged::StagedFolder;
use crate::whole::SharedFolder;

/// Parts that are taken before they are written.
const AHEAD: usize = 4;

/// What is to be written next.
enum Step {
    /// Another file begins, which will have so many bytes.
    File(FileName, u64),
    Content(Bytes),
}

/// Why a folder is not saved.
enum NotSaved {
    Io(io::Error),
    Folder(BadManifest),
    /// Together with the folder's name a path would be too long.
    Path(BadName),
    /// It is not as was said: in files, in bytes, or in the bytes of one.
    Differs,
}

impl From<io::Error> for NotSaved {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Saves a folder that comes file by file.
pub async fn save(
    state: &State,
    mut parts: Streaming<SaveFolderRequest>,
) -> Result<SaveFileReply, Status> {
    let Some(SaveFolderRequest { part: Some(Part::Head(head)) }) = parts.message().await? else {
        return Err(bad("say first what the folder is called"));
    };
    let name = name_of(&head)?;
    if head.in_place {
        return look_at(state, name).await;
    }
    check_size(&head)?;
    let library = Arc::clone(&state.library);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let writing = tokio::task::spawn_blocking(move || write(&library, &name, &head, receiver));
    let received = receive(&mut parts, sender).await;
    let written = writing.await.map_err(|_| Status::unavailable("the peer is ending"))?;
    // What went wrong with what came is the reason, where something went wrong with both.
    received?;
    let (folder, unchanged) = written.map_err(|why| match why {
        NotSaved::Io(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = "there is another file or folder of this name, and a folder is never replaced; \
                           rename one of them, or delete the old one";
            refused(Code::AlreadyExists, "EXISTS", message)
        }
        NotSaved::Io(error) => of_io(&error),
        NotSaved::Folder(why) => bad_folder(&why),
        NotSaved::Path(why) => refused(Code::InvalidArgument, "BAD_NAME", &why.to_string()),
        NotSaved::Differs => bad("what came is not what was said"),
    })?;
    state.until_told().await;
    let file = own_folder(&folder, state.user().as_deref(), state.is_online());
    Ok(SaveFileReply { file: Some(file), unchanged })
}

fn name_of(head: &SaveFolderHead) -> Result<FileName, Status> {
    let bad_name = |why: &str| refused(Code::InvalidArgument, "BAD_NAME", why);
    let name = FileName::new(&head.name).map_err(|why| bad_name(&why.to_string()))?;
    if name.base() != name.as_str() || name.as_str().starts_with('.') {
        return Err(bad_name("a folder's name has no / in it, and does not begin with a dot"));
    }
    Ok(name)
}

fn check_size(head: &SaveFolderHead) -> Result<(), Status> {
    if head.files == 0 || head.files > FOLDER_FILES_MAX as u64 {
        let why = if head.files == 0 { BadManifest::Empty } else { BadManifest::TooMany };
        return Err(refused(Code::OutOfRange, "BAD_FOLDER", &why.to_string()));
    }
    if head.size > FILE_BYTES_MAX {
        let why = BadManifest::TooLarge.to_string();
        return Err(refused(Code::OutOfRange, "BAD_FOLDER", &why));
    }
    Ok(())
}

/// Shares a folder that is there already as it is now.
async fn look_at(state: &State, name: FileName) -> Result<SaveFileReply, Status> {
    let library = Arc::clone(&state.library);
    let looked = blocking(move || library.look_at_folder(&name)).await;
    let folder = looked.map_err(|error| of_io(&error))?.map_err(|why| bad_folder(&why))?;
    state.until_told().await;
    let file = own_folder(&folder, state.user().as_deref(), state.is_online());
    Ok(SaveFileReply { file: Some(file), unchanged: true })
}

fn bad_folder(why: &BadManifest) -> Status {
    refused(Code::InvalidArgument, "BAD_FOLDER", &why.to_string())
}

async fn receive(
    parts: &mut Streaming<SaveFolderRequest>,
    sender: mpsc::Sender<Step>,
) -> Result<(), Status> {
    while let Some(part) = parts.message().await? {
        let step = match part.part {
            Some(Part::Content(content)) => Step::Content(content),
            Some(Part::File(SaveFileHead { name, size, .. })) => {
                let name = FileName::new(&name)
                    .map_err(|why| refused(Code::InvalidArgument, "BAD_NAME", &why.to_string()))?;
                Step::File(name, size)
            }
            _ => return Err(bad("what comes is files and their content")),
        };
        if sender.send(step).await.is_err() {
            // Writing has ended, and says why.
            return Ok(());
        }
    }
    Ok(())
}

/// Writes what comes, which has to be what was said; whether it was there already.
fn write(
    library: &Library,
    name: &FileName,
    head: &SaveFolderHead,
    receiver: mpsc::Receiver<Step>,
) -> Result<(SharedFolder, bool), NotSaved> {
    let mut staged = library.stage_folder(head.files, head.size)?;
    let hash = match take(&mut staged, name, head, receiver) {
        Ok(hash) => hash,
        Err(why) => {
            library.abandon_folder(&staged);
            return Err(why);
        }
    };
    if let Some(folder) = library.folder_named(name).filter(|it| it.outline.hash() == hash) {
        library.abandon_folder(&staged);
        return Ok((folder, true));
    }
    // It may lie there and be shared by nobody yet.
    if library.is_folder(name, head.size, hash) {
        library.abandon_folder(&staged);
        let folder = library.look_at_folder(name)?.map_err(NotSaved::Folder)?;
        return Ok((folder, true));
    }
    library.place_folder(staged, name)?;
    let folder =
        library.folder_named(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok((folder, false))
}

fn take(
    staged: &mut StagedFolder,
    name: &FileName,
    head: &SaveFolderHead,
    mut receiver: mpsc::Receiver<Step>,
) -> Result<ContentHash, NotSaved> {
    let mut expected = 0;
    while let Some(step) = receiver.blocking_recv() {
        match step {
            Step::File(path, size) => {
                if staged.file_bytes() != expected || staged.count() as u64 >= head.files {
                    return Err(NotSaved::Differs);
                }
                name.child_path(&path).map_err(NotSaved::Path)?;
                staged.begin(path)?;
                expected = size;
            }
            Step::Content(content) => {
                staged.write(&content)?;
                if staged.file_bytes() > expected || staged.bytes() > head.size {
                    return Err(NotSaved::Differs);
                }
            }
        }
    }
    if staged.file_bytes() != expected
        || staged.count() as u64 != head.files
        || staged.bytes() != head.size
    {
        return Err(NotSaved::Differs);
    }
    let manifest = staged.complete()?.map_err(NotSaved::Folder)?;
    Ok(ContentHash::of(&manifest.write()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_saved_and_there_already_is_shared_from_then_on() {
        let root = tempfile::tempdir().unwrap();
        let (shared, cache) = (root.path().join("shared"), root.path().join("hashes"));
        let library = Library::open_given(&shared, &cache, &root.path().join("given")).unwrap();
        std::fs::create_dir(shared.join("f")).unwrap();
        std::fs::write(shared.join("f/a"), "mine").unwrap();
        library.look().unwrap();
        assert!(library.announced().is_empty());
        let save = |content: &'static [u8]| {
            let (sender, receiver) = mpsc::channel(2);
            let name = FileName::new("a").unwrap();
            assert!(sender.try_send(Step::File(name, 4)).is_ok());
            assert!(sender.try_send(Step::Content(Bytes::from_static(content))).is_ok());
            drop(sender);
            let head = SaveFolderHead { files: 1, size: 4, ..Default::default() };
            write(&library, &FileName::new("f").unwrap(), &head, receiver)
        };
        assert!(
            matches!(save(b"more"), Err(NotSaved::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists)
        );
        assert!(library.announced().is_empty());
        assert!(matches!(save(b"mine"), Ok((_, true))));
        let told: Vec<_> = library.announced().into_keys().collect();
        assert_eq!(told, ["f/", "f/a"]);
    }
}
