//! Says of a file that a person names why it cannot be read.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::exit::{Exit, Fault};

/// Of a file that a key of the configuration names.
pub fn unread_of(key: &str, code: &str, path: &Path, error: &io::Error) -> Box<Fault> {
    let unread = unread(code, path, error);
    Box::new(Fault { what: format!("{key}: {}", unread.what), ..*unread })
}

/// Of a file that is named on the command line.
pub fn unread(code: &str, path: &Path, error: &io::Error) -> Box<Fault> {
    let file = path.display();
    let what = match error.kind() == ErrorKind::NotFound {
        true => format!("there is no file {file}"),
        false => format!("{file} cannot be read: {}", error.kind()),
    };
    Box::new(Fault::new(Exit::Usage, code, what).remedy(remedy(path)))
}

/// What to do about it: where a path begins is easily forgotten.
pub fn remedy(path: &Path) -> String {
    let readable = "name a file that is there and can be read";
    match std::env::current_dir() {
        Ok(dir) if path.is_relative() => {
            format!("{readable}; {} is looked for in {}", path.display(), dir.display())
        }
        Ok(_) | Err(_) => readable.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_not_there_is_named_with_the_folder_where_it_was_looked_for() {
        let none = io::Error::from(ErrorKind::NotFound);
        let fault = unread("isotherm::x", Path::new("a/b.avsc"), &none);
        assert_eq!((fault.exit, fault.what.as_str()), (Exit::Usage, "there is no file a/b.avsc"));
        let here = std::env::current_dir().unwrap();
        let remedy = fault.remedy.unwrap();
        assert!(remedy.ends_with(&format!("a/b.avsc is looked for in {}", here.display())));
        let shut = io::Error::from(ErrorKind::PermissionDenied);
        let fault = unread("isotherm::x", Path::new("/a"), &shut);
        assert_eq!(fault.what, "/a cannot be read: permission denied");
        assert_eq!(fault.remedy.unwrap(), "name a file that is there and can be read");
    }
}
