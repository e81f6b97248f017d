//! The unprivileged user that runs PostgreSQL when Auspex runs as root, because PostgreSQL refuses to.
//!
//! `nobody` is taken before a system user `postgres`: the embedded server trusts every local connection,
//! so that whoever connects can act as the user it runs as, and `postgres` may own a real cluster.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid};

const CANDIDATES: [&str; 2] = ["nobody", "daemon"];

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// The user to run a server as that refuses root: `None` means "as we are", since we are not root.
    ///
    /// Data that exists already is served by the user who owns it.
    ///
    /// # Errors
    /// We are root and the machine has no user to run as; or we are not root, and the data belong to
    /// somebody else.
    pub fn for_server(data: Option<&Path>) -> anyhow::Result<Option<User>> {
        let owner = match data {
            Some(path) => Some(
                fs::metadata(path).with_context(|| format!("read folder {}", path.display()))?,
            ),
            None => None,
        };
        let me = nix::unistd::geteuid();
        if !me.is_root() {
            return match (owner, data) {
                (Some(owner), Some(path)) if owner.uid() != me.as_raw() => bail!(
                    "{} belongs to user id {}, not to this user: run as its owner or choose another data directory",
                    path.display(),
                    owner.uid(),
                ),
                _ => Ok(None),
            };
        }
        match owner {
            Some(owner) if owner.uid() != 0 => Ok(Some(Self::from_ids(owner.uid(), owner.gid()))),
            Some(_) | None => Self::unprivileged().map(Some),
        }
    }

    /// The first folder on the way to `path` that this user cannot enter; `None` if there is none.
    pub fn blocked_at(&self, path: &Path) -> anyhow::Result<Option<PathBuf>> {
        let path =
            path.canonicalize().with_context(|| format!("resolve path {}", path.display()))?;
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        for folder in folders {
            let metadata = fs::metadata(folder)
                .with_context(|| format!("read folder {}", folder.display()))?;
            if metadata.is_dir() && !self.may_enter(&metadata) {
                return Ok(Some(folder.to_path_buf()));
            }
        }
        Ok(None)
    }

    fn unprivileged() -> anyhow::Result<User> {
        for name in CANDIDATES {
            let found = nix::unistd::User::from_name(name)
                .with_context(|| format!("look up user {name}"))?;
            if let Some(found) = found {
                let (uid, gid) = (found.uid.as_raw(), found.gid.as_raw());
                return Ok(User { name: found.name, uid, gid });
            }
        }
        bail!(
            "PostgreSQL refuses to run as root, and this machine has neither of the users {}: run Auspex as an ordinary user, or set DATABASE_URL",
            CANDIDATES.join(", "),
        )
    }

    fn from_ids(uid: u32, gid: u32) -> User {
        let known = nix::unistd::User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let name = known.map_or_else(|| uid.to_string(), |user| user.name);
        User { name, uid, gid: Gid::from_raw(gid).as_raw() }
    }

    fn may_enter(&self, folder: &fs::Metadata) -> bool {
        let execute = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & execute != 0
    }
}
