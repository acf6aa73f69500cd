//! The path of a cgroup below the cgroup2 mount, as a subject names it.

use std::fmt;

use agent_common::limits::MAX_CGROUP_LEVEL;

/// An absolute, normalised path below the cgroup2 mount: `/system.slice/llm.service`; `/` is the mount itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath(String);

/// Why a path is not a cgroup path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CgroupPathError {
    /// It does not begin with `/`.
    #[error("a cgroup path begins with / (it is a path below the cgroup2 mount)")]
    Relative,
    /// `.`, `..`, an empty part or a slash at the end.
    #[error("a cgroup path has no empty part, no `.`, no `..` and no slash at its end")]
    NotNormal,
    /// A NUL or another control character.
    #[error("a cgroup path has no control characters")]
    Control,
    /// More levels than the kernel side follows.
    #[error("a cgroup path has at most {MAX_CGROUP_LEVEL} levels")]
    TooDeep,
}

impl CgroupPath {
    /// Checks a path. Nothing is repaired: what is written is what is matched.
    pub fn parse(text: &str) -> Result<Self, CgroupPathError> {
        let Some(rest) = text.strip_prefix('/') else { return Err(CgroupPathError::Relative) };
        if text.chars().any(char::is_control) {
            return Err(CgroupPathError::Control);
        }
        let path = Self(text.to_owned());
        if rest.is_empty() {
            return Ok(path);
        }
        if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(CgroupPathError::NotNormal);
        }
        if path.level() > MAX_CGROUP_LEVEL {
            return Err(CgroupPathError::TooDeep);
        }
        Ok(path)
    }

    /// The cgroup2 mount itself.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How deep it lies, as the kernel counts cgroup levels: `/` is 0, `/a/b` is 2.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.0.split('/').filter(|part| !part.is_empty()).count().try_into().unwrap_or(u32::MAX)
    }

    /// This path, its parent, and so on up to `/`.
    pub(crate) fn and_above(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), |path| match path.0.rsplit_once('/') {
            _ if path.0 == "/" => None,
            Some((above, _)) if !above.is_empty() => Some(Self(above.to_owned())),
            Some(_) | None => Some(Self::root()),
        })
    }

    /// Whether a part of it is `*`. No subject's is, so that [`stranger`](Self::stranger) is nobody's own path.
    pub(crate) fn is_pattern(&self) -> bool {
        self.0.split('/').any(|part| part == "*")
    }

    /// Whatever is new directly below this path, as events call it: `/a/*`.
    pub(crate) fn stranger(&self) -> Self {
        self.child("*")
    }

    /// The path of something directly below; not checked, `name` is that of a directory.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0.trim_end_matches('/')))
    }

    /// Whether `other` is this cgroup or lies below it. Parts count, not characters: `/a` does not hold `/ab`.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        self.0 == "/"
            || other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{CgroupPath, CgroupPathError};

    fn path(s: &str) -> CgroupPath {
        CgroupPath::parse(s).unwrap()
    }

    #[test]
    fn a_path_holds_itself_and_what_is_below_but_no_namesake() {
        assert!(path("/a").holds(&path("/a")));
        assert!(path("/a").holds(&path("/a/b")));
        assert!(path("/").holds(&path("/a")));
        assert!(!path("/a").holds(&path("/ab")));
        assert!(!path("/a/b").holds(&path("/a")));
    }

    #[test]
    fn paths_that_could_be_read_two_ways_are_refused() {
        for (text, why) in [
            ("a/b", CgroupPathError::Relative),
            ("", CgroupPathError::Relative),
            ("/a/../b", CgroupPathError::NotNormal),
            ("/a//b", CgroupPathError::NotNormal),
            ("/a/", CgroupPathError::NotNormal),
            ("/a/./b", CgroupPathError::NotNormal),
            ("/a\n", CgroupPathError::Control),
            ("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", CgroupPathError::TooDeep),
        ] {
            assert_eq!(CgroupPath::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn the_way_up_ends_at_the_root() {
        let way = |s: &str| path(s).and_above().map(|p| p.to_string()).collect::<Vec<_>>();
        assert_eq!(way("/a/b"), ["/a/b", "/a", "/"]);
        assert_eq!(way("/"), ["/"]);
    }

    #[test]
    fn levels_count_as_the_kernel_counts_them() {
        assert_eq!((path("/").level(), path("/a").level(), path("/a/b").level()), (0, 1, 2));
    }
}
