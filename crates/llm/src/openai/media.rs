//! Pictures, documents and sound, as data URLs.

use serde_json::{Value, json};

use crate::neutral::{ConvertError, Media, MediaKind, Source};

/// Reads the address of a picture or a document: a data URL becomes what it holds.
pub(crate) fn source_of(url: &str) -> Source {
    match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((media_type, data)) if !media_type.is_empty() => {
            // Parameters of the type (`;charset=…`) are nobody's business.
            let media_type = media_type.split(';').next().unwrap_or_default().to_owned();
            Source::Base64 { media_type, data: data.to_owned() }
        }
        _ => Source::Url(url.to_owned()),
    }
}

/// A data URL.
pub(crate) fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

/// A piece without cache mark.
pub(crate) fn piece(kind: MediaKind, source: Source) -> Media {
    Media { kind, source, name: None, detail: None, cache: None }
}

/// Sound in Chat and Responses: `{"data", "format"}`.
pub(crate) fn sound_of(value: &Value) -> Option<Media> {
    let data = value.get("data").and_then(Value::as_str)?;
    let media_type = match value.get("format").and_then(Value::as_str)? {
        "mp3" => "audio/mpeg".to_owned(),
        format if format.len() <= 20 => format!("audio/{format}"),
        _ => return None,
    };
    Some(piece(MediaKind::Audio, Source::Base64 { media_type, data: data.to_owned() }))
}

/// Sound, written.
pub(crate) fn sound(media: &Media) -> Result<Value, ConvertError> {
    if let Source::Base64 { media_type, data } = &media.source {
        let format = match media_type.as_str() {
            "audio/mpeg" | "audio/mp3" => Some("mp3"),
            "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
            _ => None,
        };
        if let Some(format) = format {
            return Ok(json!({ "data": data, "format": format }));
        }
    }
    Err(unsupported(media, "this model takes sound as WAV or MP3 in base64 only"))
}

/// What a piece is called if it has no name.
pub(crate) fn file_name(media: &Media) -> String {
    let ending = match &media.source {
        Source::Base64 { media_type, .. } if media_type == "application/pdf" => "pdf",
        Source::Base64 { media_type, .. } if media_type.starts_with("text/") => "txt",
        _ => "bin",
    };
    media.name.clone().unwrap_or_else(|| format!("document.{ending}"))
}

/// A document of plain text, as text.
pub(crate) fn text_document(media: &Media, text: &str) -> String {
    match &media.name {
        Some(name) => format!("{name}:\n\n{text}"),
        None => text.to_owned(),
    }
}

/// Why a piece cannot be written.
pub(crate) fn unsupported(media: &Media, why: &'static str) -> ConvertError {
    let what = match media.kind {
        MediaKind::Image => "a picture",
        MediaKind::Document => "a document",
        MediaKind::Audio => "sound",
        MediaKind::Video => "a film",
    };
    ConvertError::Unsupported { what: what.to_owned(), why }
}

/// Why a file at another provider cannot be written.
pub(crate) const ELSEWHERE: &str = "it is a file at another provider: send the content itself";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart_and_others_kept() {
        let made = source_of("data:image/png;charset=x;base64,AAAA");
        assert_eq!(made, Source::Base64 { media_type: "image/png".to_owned(), data: "AAAA".to_owned() });
        for url in ["https://example.org/a.png", "data:;base64,AA", "data:text/plain,hello", ""] {
            assert_eq!(source_of(url), Source::Url(url.to_owned()));
        }
    }

    #[test]
    fn sound_goes_as_two_formats() {
        for format in ["mp3", "wav"] {
            let value = json!({"data": "AA", "format": format});
            assert_eq!(sound(&sound_of(&value).unwrap()).unwrap(), value);
        }
        assert!(sound(&sound_of(&json!({"data": "AA", "format": "flac"})).unwrap()).is_err());
    }
}
