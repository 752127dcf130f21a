//! What a member keeps between two lives of its program: one private file per store, group and name, locked while it runs.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use tertulia_client::{Instance, Saved};
use tertulia_group::Name;

use crate::failure::Failure;

/// The folder of logs: `$XDG_DATA_HOME/tertulia`.
pub fn data_folder() -> Result<PathBuf, Failure> {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// The folder of tokens: `$XDG_CONFIG_HOME/tertulia/tokens`.
pub fn tokens_folder() -> Result<PathBuf, Failure> {
    xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("tokens"))
}

/// The file of nodes that were met over TLS: `$XDG_CONFIG_HOME/tertulia/known_nodes`.
pub fn known_nodes_file() -> Result<PathBuf, Failure> {
    xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("known_nodes"))
}

/// The folder of members' states: `$XDG_STATE_HOME/tertulia`.
pub fn state_folder() -> Result<PathBuf, Failure> {
    xdg("XDG_STATE_HOME", ".local/state")
}

fn xdg(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable)
        // Of who has no HOME, such as a service, the system knows it.
        .or_else(|| {
            std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(below_home))
        })
        .map(|folder| folder.join("tertulia"))
        .ok_or_else(|| {
            Failure::failed(
                "NO_HOME",
                format!("there is no home folder: set HOME or {variable} to a folder of yours"),
            )
        })
}

/// A name on a node, or a membership, that no other program of this user has while this one lives.
#[derive(Debug)]
pub struct Slot {
    path: PathBuf,
    /// Its lock ends with it.
    _lock: File,
}

impl Slot {
    /// The membership of `name` in `group`; `None` while another program has it.
    pub fn of_member(
        root: &Path,
        instance: Instance,
        group: &Name,
        name: &Name,
    ) -> Result<Option<Self>, Failure> {
        let folder = root.join(instance.to_string()).join(format!("in-{}", group.folded()));
        Self::take(&folder, name)
    }

    /// The name alone, for as long as the group is not known; `None` while another program has it.
    pub fn of_name(root: &Path, instance: Instance, name: &Name) -> Result<Option<Self>, Failure> {
        Self::take(&root.join(instance.to_string()).join("anywhere"), name)
    }

    fn take(folder: &Path, name: &Name) -> Result<Option<Self>, Failure> {
        let doing = |path: &Path| format!("cannot use {}", path.display());
        create_folder(folder).map_err(|error| Failure::io(&doing(folder), &error))?;
        // The lock is a file of its own: the state is replaced whole, and a lock would go with the old file.
        let path = folder.join(format!("{}.lock", name.folded()));
        let lock = private(OpenOptions::new().create(true).truncate(false).write(true))
            .open(&path)
            .map_err(|error| Failure::io(&doing(&path), &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { path: path.with_extension("member"), _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Failure::io(&doing(&path), &error)),
        }
    }

    /// What an earlier life left; an unreadable file counts as none, and is told.
    pub fn read(&self) -> Option<Saved> {
        let told = |error: &dyn std::fmt::Display| {
            tracing::warn!("{}: {error}; a new membership is begun", self.path.display());
        };
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                told(&error);
                return None;
            }
        };
        Saved::from_bytes(&bytes).inspect_err(|error| told(error)).ok()
    }

    /// Replaces the file as a whole.
    pub fn write(&self, saved: &Saved) -> std::io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file =
            private(OpenOptions::new().create(true).truncate(true).write(true)).open(&new)?;
        file.write_all(&saved.to_bytes())?;
        drop(file);
        std::fs::rename(&new, &self.path)
    }

    /// The membership is over.
    pub fn forget(&self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }

    /// Where the state is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

pub fn create_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: Instance = Instance([0xab; 16]);

    #[test]
    fn a_membership_is_one_programs_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let name = |text| Name::new(text).unwrap();
        let take = |group, member| {
            Slot::of_member(root.path(), STORE, &name(group), &name(member)).unwrap()
        };
        let slot = take("ops", "ana").unwrap();
        assert!(take("ops", "ana").is_none());
        assert!(take("ops", "ANA").is_none(), "the same name in other letters");
        assert!(take("ops", "ana-2").is_some() && take("lobby", "ana").is_some());
        drop(slot);
        assert!(take("ops", "ana").is_some());
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let name = |text| Name::new(text).unwrap();
        for group in ["..", ".", "a.b"] {
            let slot = Slot::of_member(root.path(), STORE, &name(group), &name(".."));
            let path = slot.unwrap().unwrap().path().to_owned();
            let below = path.strip_prefix(root.path()).unwrap();
            let parts: Vec<_> = below.components().collect();
            assert_eq!(parts.len(), 3, "{path:?}");
            let plain =
                |part: &std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
            assert!(parts.iter().all(plain), "{path:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let name = Name::new("ana").unwrap();
        let slot = Slot::of_member(root.path(), STORE, &name, &name).unwrap().unwrap();
        let lock = slot.path().with_extension("lock");
        assert_eq!(std::fs::metadata(lock).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
