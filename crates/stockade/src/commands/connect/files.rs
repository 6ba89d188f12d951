//! The files of a tool's configuration: ours is merged into what is there, and can be taken back.
//!
//! *Invariant:* nothing of the user's is lost. The file as it was before the first time lies beside it and is never written over,
//! what was written is noted before it is written, and what was changed since is kept when all is put back. A file that does not
//! read is left alone.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toml_edit::{DocumentMut, Item, TableLike};

use crate::{
    commands,
    failure::{Failure, Outcome},
    home::write_secret,
};

/// One file of a tool's configuration.
pub struct Piece {
    pub path: PathBuf,
    pub form: Form,
}

pub enum Form {
    /// Merged into a JSON file.
    Json(Value),
    /// Merged into a TOML file.
    Toml(Value),
    /// A file of our own.
    Whole(String),
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub path: PathBuf,
    /// Where its former content lies; nothing if there was none.
    pub before: Option<PathBuf>,
    /// What was written, so that it is seen whether somebody changed it since.
    pub content: String,
}

/// What became of a file when all was put back.
#[derive(Debug, Serialize)]
pub struct PutBack {
    pub path: PathBuf,
    /// Where the file lies as it was a moment ago, if somebody had changed it since we wrote it.
    pub changed: Option<PathBuf>,
}

impl Piece {
    /// The file's content: what is there, with ours merged into it.
    pub fn text(&self, there: Option<&str>) -> Outcome<String> {
        let there = there.filter(|text| !text.trim().is_empty());
        match &self.form {
            Form::Whole(text) => Ok(text.clone()),
            Form::Json(ours) => {
                let mut value = match there {
                    None => json!({}),
                    Some(text) => serde_json::from_str(text).map_err(|error| self.unreadable(&error.to_string()))?,
                };
                if !value.is_object() {
                    return Err(self.unreadable("it is no object"));
                }
                merge(&mut value, ours);
                Ok(serde_json::to_string_pretty(&value).map_err(std::io::Error::from)? + "\n")
            }
            Form::Toml(ours) => {
                // Not the parser's own words: they repeat the line, and there may be a key in it.
                let parsed = there.unwrap_or_default().parse::<DocumentMut>();
                let mut document = parsed.map_err(|error| {
                    let before = error.span().and_then(|span| there.unwrap_or_default().get(..span.start));
                    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
                    self.unreadable(&format!("line {line} is no TOML"))
                })?;
                merge_toml(document.as_table_mut(), ours);
                Ok(document.to_string())
            }
        }
    }

    fn unreadable(&self, why: &str) -> Failure {
        Failure::user(
            "their_configuration",
            format!("{} cannot be read, and so nothing was changed: {why}", self.path.display()),
            "repair it (comments in JSON do not read here either), or put what --print shows there by hand",
        )
    }

    /// What is there and what is to be there, if that is another thing. Makes sure that it can be written.
    pub fn prepare(&self) -> Outcome<Option<Prepared>> {
        // The file itself, not a link to it: people keep such files elsewhere and link to them.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let there = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(denied("read", &path, &error)),
        };
        let text = self.text(there.as_deref())?;
        if there.as_deref() == Some(text.as_str()) {
            return Ok(None);
        }
        if let Some(folder) = path.parent() {
            commands::private_dir(folder)?;
        }
        let fresh = beside(&path, ".new");
        let _ = fs::remove_file(&fresh);
        let tried = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh);
        tried.map_err(|error| denied("written", &path, &error))?;
        let _ = fs::remove_file(&fresh);
        Ok(Some(Prepared { path, is_there: there.is_some(), text }))
    }
}

/// A file that can be written.
pub struct Prepared {
    path: PathBuf,
    is_there: bool,
    text: String,
}

impl Prepared {
    /// Keeps what is there, the first time, and tells what will be written. Nothing is written yet.
    pub fn keep(&self, files: &mut Vec<Written>) -> Outcome {
        if let Some(known) = files.iter_mut().find(|known| known.path == self.path) {
            known.content.clone_from(&self.text);
            return Ok(());
        }
        let kept = self.is_there.then(|| beside(&self.path, ".before-stockade"));
        if let Some(kept) = &kept
            && !kept.exists()
        {
            fs::copy(&self.path, kept).map_err(|error| denied("copied", &self.path, &error))?;
        }
        files.push(Written { path: self.path.clone(), before: kept, content: self.text.clone() });
        Ok(())
    }

    /// Writes it: whole or not at all, with the rights that it had.
    pub fn write(&self) -> Outcome {
        let failed = |error| denied("written", &self.path, &error);
        let fresh = beside(&self.path, ".new");
        let _ = fs::remove_file(&fresh);
        write_secret(&fresh, &SecretString::from(self.text.clone()))?;
        if let Ok(about) = fs::metadata(&self.path) {
            fs::set_permissions(&fresh, about.permissions()).map_err(failed)?;
        }
        fs::rename(&fresh, &self.path).map_err(failed)
    }
}

/// Puts a file back as it was. What somebody changed since is kept beside it.
pub fn put_back(written: &Written) -> Outcome<PutBack> {
    let path = &written.path;
    let failed = |error| denied("put back", path, &error);
    let there = fs::read_to_string(path).ok();
    let changed = there.is_some_and(|text| text != written.content).then(|| beside(path, ".after-stockade"));
    if let Some(changed) = &changed {
        fs::copy(path, changed).map_err(failed)?;
    }
    let done = match &written.before {
        Some(before) => fs::rename(before, path),
        None => fs::remove_file(path),
    };
    match done {
        // Somebody was here before.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        done => done.map_err(failed)?,
    }
    Ok(PutBack { path: path.clone(), changed })
}

fn denied(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::user(
        "their_configuration",
        format!("{} cannot be {verb}: {error}", path.display()),
        "look at its owner and rights, or put what --print shows there by hand",
    )
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// The same for TOML, where comments, order and dates stay.
fn merge_toml(into: &mut dyn TableLike, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                if into.get(name).and_then(Item::as_table_like).is_none() {
                    let mut table = toml_edit::Table::new();
                    table.set_implicit(true);
                    into.insert(name, Item::Table(table));
                }
                if let Some(table) = into.get_mut(name).and_then(Item::as_table_like_mut) {
                    merge_toml(table, value);
                }
            }
            plain => {
                let mut fresh = toml_edit::Value::from(plain.as_str().unwrap_or_default());
                match into.get_mut(name).and_then(Item::as_value_mut) {
                    Some(old) if old.as_str() == plain.as_str() => {}
                    Some(old) => {
                        fresh.decor_mut().clone_from(old.decor());
                        *old = fresh;
                    }
                    None => drop(into.insert(name, Item::Value(fresh))),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(piece: &Piece, files: &mut Vec<Written>) -> Outcome {
        let Some(prepared) = piece.prepare()? else { return Ok(()) };
        prepared.keep(files)?;
        prepared.write()
    }

    fn json(path: &Path, ours: Value) -> Piece {
        Piece { path: path.to_owned(), form: Form::Json(ours) }
    }

    #[test]
    fn what_is_there_stays_and_a_second_time_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let theirs = "{\"theme\": \"dark\", \"env\": {\"A\": \"1\"}}";
        fs::write(&path, theirs).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut files = Vec::new();
        write(&json(&path, json!({"env": {"B": "2"}})), &mut files).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        let value: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(value, json!({"theme": "dark", "env": {"A": "1", "B": "2"}}));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        write(&json(&path, json!({"env": {"B": "2"}})), &mut files).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);

        // Another time, with our notes lost: what was there before the first time is still what is kept.
        files.clear();
        write(&json(&path, json!({"env": {"B": "3"}})), &mut files).unwrap();
        let put = put_back(&files[0]).unwrap();
        assert_eq!(put.changed, None);
        assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
    }

    #[test]
    fn what_somebody_changed_since_is_kept_when_all_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let mut files = Vec::new();
        write(&json(&path, json!({"a": "1"})), &mut files).unwrap();
        fs::write(&path, "{\"a\": \"1\", \"mine\": true}").unwrap();
        let kept = put_back(&files[0]).unwrap().changed.unwrap();
        assert!(!path.exists() && fs::read_to_string(kept).unwrap().contains("mine"));
        assert_eq!(put_back(&files[0]).unwrap().changed, None);
    }

    #[test]
    fn a_link_stays_one_and_what_does_not_read_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("settings.json"), folder.path().join("elsewhere.json"));
        fs::write(&file, "{\"a\": 1}").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&json(&link, json!({"b": "2"})), &mut Vec::new()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&file).unwrap().contains("\"b\""));
        for theirs in ["{\"a\": 1, // mine\n}", "[1]", "\"SECRET\" x"] {
            fs::write(&file, theirs).unwrap();
            let Err(Failure::Error(error)) = write(&json(&link, json!({"b": "3"})), &mut Vec::new()) else { panic!() };
            assert!(error.message.contains("json") && !error.message.contains("SECRET"), "{error:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
        }
    }

    #[test]
    fn a_toml_file_keeps_its_comments_its_order_and_its_dates() {
        let ours = json!({"model": "m", "model_providers": {"stockade": {"wire_api": "responses"}}});
        let piece = Piece { path: PathBuf::from("config.toml"), form: Form::Toml(ours) };
        let theirs = "# mine\nsince = 2026-01-02 # a day\nmodel = \"x\" # why\n\n[z]\na = 1\n\n[model_providers.mine]\nname = \"mine\"\n";
        let text = piece.text(Some(theirs)).unwrap();
        let expected = theirs.replace("\"x\"", "\"m\"");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.ends_with("[model_providers.stockade]\nwire_api = \"responses\"\n"), "{text}");
        assert_eq!(piece.text(Some(&text)).unwrap(), text);
        let inline = piece.text(Some("model_providers = { mine = { name = \"mine\" } }\n")).unwrap();
        let value: Value = toml::from_str(&inline).unwrap();
        assert_eq!(value["model_providers"]["mine"]["name"], "mine");
        assert_eq!(value["model_providers"]["stockade"]["wire_api"], "responses");
        let Err(Failure::Error(error)) = piece.text(Some("a = 1\nkey = sk-SECRET\n")) else { panic!() };
        assert!(error.message.contains("line 2") && !format!("{error:?}").contains("SECRET"), "{error:?}");
    }
}
