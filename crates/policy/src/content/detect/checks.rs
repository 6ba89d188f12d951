//! What makes a candidate real: checksums, check digits, and whether a value looks like a placeholder.
//!
//! Every function takes bytes that nobody vouches for and never panics.

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether the last six characters are the CRC-32 of what stands before them, in base 62 (GitHub's and npm's tokens).
pub fn crc62(run: &[u8]) -> bool {
    let Some((body, check)) = run.len().checked_sub(6).and_then(|at| run.split_at_checked(at)) else { return false };
    let mut crc = crc32fast::hash(body);
    check.iter().rev().all(|letter| {
        let digit = (crc % 62) as usize;
        crc /= 62;
        BASE62.get(digit) == Some(letter)
    })
}

/// Words that stand in examples and never in a secret. Long enough that chance does not make them.
const PLACEHOLDERS: [&[u8]; 14] = [
    b"example",
    b"placeholder",
    b"changeme",
    b"redacted",
    b"yourkey",
    b"your_",
    b"your-",
    b"sample",
    b"dummy",
    b"xxxxx",
    b"123456",
    b"abcdef",
    b"insert",
    b"secret-key",
];

/// Whether a value could have come from a generator of random values: not a placeholder, not one letter again and again.
pub fn plausible(value: &[u8]) -> bool {
    !placeholder(value) && bits(value) >= 2.9
}

/// Whether somebody wrote this to show where a value goes.
pub fn placeholder(value: &[u8]) -> bool {
    let mut same = 1_usize;
    for pair in value.windows(2) {
        same = if pair.first() == pair.last() { same + 1 } else { 1 };
        if same >= 6 {
            return true;
        }
    }
    PLACEHOLDERS.iter().any(|word| value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
}

/// Shannon's entropy, in bits for each byte.
pub fn bits(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let all = value.len().max(1) as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / all;
            -share * share.log2()
        })
        .sum()
}

/// The digits of a text, in at most `N` places; nothing if there are more.
pub fn digits<const N: usize>(text: &[u8]) -> Option<([u8; N], usize)> {
    let (mut out, mut len) = ([0; N], 0);
    for byte in text.iter().filter(|byte| byte.is_ascii_digit()) {
        *out.get_mut(len)? = byte - b'0';
        len += 1;
    }
    Some((out, len))
}

/// Luhn's check, over digits.
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(n, digit)| {
            let digit = u32::from(*digit);
            if n % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether these digits are a card's: an issuer's range, the length that it gives out, and Luhn's check.
pub fn card(text: &[u8]) -> bool {
    let Some((digits, len)) = digits::<19>(text) else { return false };
    let digits = digits.get(..len).unwrap_or_default();
    let head = |n: usize| digits.get(..n).unwrap_or_default().iter().fold(0_u32, |all, d| all * 10 + u32::from(*d));
    let issued = match (head(1), head(2), head(3), head(4)) {
        (4, ..) => matches!(len, 13 | 16 | 19),
        (_, 34 | 37, ..) => len == 15,
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => len == 16,
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => (14..=19).contains(&len),
        (_, 65 | 62, ..) | (_, _, 644..=649, _) | (_, _, _, 6011 | 3528..=3589) => (16..=19).contains(&len),
        _ => false,
    };
    issued && luhn(digits) && digits.iter().any(|digit| Some(digit) != digits.first())
}

/// How long an IBAN of each country is.
const IBAN: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

/// How many of these bytes are an IBAN: its country's length without spaces, and ISO 7064's mod 97-10.
pub fn iban(text: &[u8]) -> Option<usize> {
    let country: &[u8; 2] = text.get(..2)?.try_into().ok()?;
    let (_, length) = IBAN.iter().find(|(known, _)| *known == country)?;
    let mut seen = 0;
    let end = text.iter().position(|byte| {
        seen += usize::from(*byte != b' ');
        seen == *length
    })? + 1;
    let compact = text.get(..end)?.iter().filter(|byte| **byte != b' ');
    let turned = compact.clone().skip(4).chain(compact.take(4));
    let rest = turned.fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97,
    });
    (rest == 1).then_some(end)
}

/// Germany's tax identification number: eleven digits, one of the first ten more than once, ISO 7064's mod 11,10.
pub fn steuer_id(text: &[u8]) -> bool {
    let Some((digits, 11)) = digits::<11>(text) else { return false };
    let (body, check) = digits.split_at(10);
    let mut counts = [0_u8; 10];
    for digit in body {
        if let Some(count) = counts.get_mut(usize::from(*digit)) {
            *count += 1;
        }
    }
    let repeated = counts.iter().filter(|count| **count > 1).count();
    let most = counts.iter().max().copied().unwrap_or_default();
    if body.first() == Some(&0) || repeated != 1 || most > 3 {
        return false;
    }
    let product = body.iter().fold(10_u32, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    check.first().is_some_and(|check| (11 - product) % 10 == u32::from(*check))
}

/// France's NIR: fifteen places, the key is 97 less the rest of the first thirteen; Corsica's letters count as digits.
pub fn nir(text: &[u8]) -> bool {
    let compact: Vec<u8> = text.iter().copied().filter(|byte| *byte != b' ').collect();
    let Some((body, key)) = (compact.len() == 15).then(|| compact.split_at(13)) else { return false };
    let number = |bytes: &[u8]| {
        bytes.iter().enumerate().try_fold(0_u64, |all, (n, byte)| match byte {
            b'0'..=b'9' => Some(all * 10 + u64::from(byte - b'0')),
            b'A' | b'B' if n == 6 => Some(all * 10),
            _ => None,
        })
    };
    let less = match body.get(6) {
        Some(b'A') => 1_000_000,
        Some(b'B') => 2_000_000,
        _ => 0,
    };
    match (number(body), number(key)) {
        (Some(body), Some(key)) => 97 - (body.saturating_sub(less)) % 97 == key,
        _ => false,
    }
}

/// The United Kingdom's national insurance number: prefixes that are given out.
pub fn nino(text: &[u8]) -> bool {
    let head = text.get(..2).unwrap_or_default();
    ![&b"BG"[..], b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"].contains(&head)
}

/// The United States' social security number: areas, groups and serials that are given out, and not the ones of brochures.
pub fn ssn(text: &[u8]) -> bool {
    let Some((digits, 9)) = digits::<9>(text) else { return false };
    let number = |from: usize, to: usize| {
        digits.get(from..to).unwrap_or_default().iter().fold(0_u32, |all, digit| all * 10 + u32::from(*digit))
    };
    let (area, group, serial) = (number(0, 3), number(3, 5), number(5, 9));
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !matches!(number(0, 9), 123_456_789 | 78_051_120)
}

/// Spain's DNI and NIE: the letter is the number's rest by 23.
pub fn dni(text: &[u8]) -> bool {
    let lead = match text.first() {
        Some(b'X') => 0,
        Some(b'Y') => 1,
        Some(b'Z') => 2,
        _ => 0,
    };
    let Some((digits, len)) = digits::<8>(text) else { return false };
    let number = digits.iter().take(len).fold(if len == 7 { lead } else { 0 }, |all: u32, d| all * 10 + u32::from(*d));
    text.last() == b"TRWAGMYFPDXBNJZSQVHLCKE".get((number % 23) as usize)
}

/// The Netherlands' BSN: the eleven test.
pub fn bsn(text: &[u8]) -> bool {
    let Some((digits, 9)) = digits::<9>(text) else { return false };
    let sum: i32 =
        digits.iter().zip([9, 8, 7, 6, 5, 4, 3, 2, -1]).map(|(digit, weight)| i32::from(*digit) * weight).sum();
    sum % 11 == 0 && digits.iter().any(|digit| *digit != 0)
}

/// Italy's codice fiscale: the last letter counts the others, those in odd places by a table.
pub fn codice_fiscale(text: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let Some((check, body)) = text.split_last().filter(|(_, body)| body.len() == 15) else { return false };
    let sum: u32 = body
        .iter()
        .enumerate()
        .map(|(n, byte)| {
            let value = if byte.is_ascii_digit() { byte - b'0' } else { byte.wrapping_sub(b'A') };
            if n % 2 == 1 { u32::from(value) } else { ODD.get(usize::from(value)).copied().unwrap_or_default() }
        })
        .sum();
    u32::from(check.wrapping_sub(b'A')) == sum % 26
}

/// Poland's PESEL: a birthday and a weighted check digit.
pub fn pesel(text: &[u8]) -> bool {
    let Some((digits, 11)) = digits::<11>(text) else { return false };
    let sum: u32 =
        digits.iter().zip([1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    let (month, day) = match digits {
        [_, _, a, b, c, d, ..] => ((a * 10 + b) % 20, c * 10 + d),
    };
    sum.is_multiple_of(10) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// Switzerland's AHV number: an EAN-13 that begins with 756.
pub fn ahv(text: &[u8]) -> bool {
    let Some((digits, 13)) = digits::<13>(text) else { return false };
    let sum: u32 = digits.iter().enumerate().map(|(n, digit)| u32::from(*digit) * if n % 2 == 0 { 1 } else { 3 }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_tokens() {
        assert!(crc62(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"), "the one that GitHub wrote about");
        assert!(!crc62(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18"));
        assert!(!crc62(b"17"));
    }

    #[test]
    fn cards_by_issuer_length_and_luhn() {
        for good in [
            "4111111111111111",
            "5555555555554444",
            "2221000000000009",
            "378282246310005",
            "6011000990139424",
            "3530111333300000",
            "30569309025904",
            "4222222222222",
        ] {
            assert!(card(good.as_bytes()), "{good}");
        }
        for bad in ["4111111111111112", "1234567812345670", "0000000000000000", "411111111111111", "9111111111111111"] {
            assert!(!card(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn ibans_by_country_and_mod_97() {
        for good in [
            "DE89370400440532013000",
            "GB82 WEST 1234 5698 7654 32",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
            "FR1420041010050500013M02606",
        ] {
            assert_eq!(iban(good.as_bytes()), Some(good.len()), "{good}");
        }
        assert_eq!(iban(b"DE89370400440532013000 12"), Some(22), "what follows is not part of it");
        for bad in ["DE89370400440532013001", "DE8937040044053201300", "XX89370400440532013000", ""] {
            assert_eq!(iban(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn national_ids_by_their_check_digits() {
        assert!(steuer_id(b"86095742719") && steuer_id(b"47036892816") && !steuer_id(b"86095742718"));
        assert!(!steuer_id(b"12345678903"), "no digit stands twice");
        assert!(nir(b"255081416802538") && nir(b"2 55 08 14 168 025 38") && !nir(b"255081416802539"));
        assert!(nino(b"AB123456C") && !nino(b"GB123456C"));
        assert!(ssn(b"536-90-4399") && !ssn(b"666-90-4399") && !ssn(b"123-45-6789") && !ssn(b"536-00-4399"));
        assert!(dni(b"12345678Z") && dni(b"X1234567L") && !dni(b"12345678A"));
        assert!(bsn(b"111222333") && !bsn(b"111222334") && !bsn(b"000000000"));
        assert!(codice_fiscale(b"RSSMRA85T10A562S") && !codice_fiscale(b"RSSMRA85T10A562T"));
        assert!(pesel(b"44051401359") && !pesel(b"44051401358"));
        assert!(ahv(b"756.9217.0769.85") && !ahv(b"756.9217.0769.84"));
    }

    #[test]
    fn placeholders_are_known() {
        for word in ["AKIAIOSFODNN7EXAMPLE", "ghp_xxxxxxxxxxxxxxxx", "aaaaaaaaaaaaaaaa", "your_token_here"] {
            assert!(placeholder(word.as_bytes()), "{word}");
        }
        assert!(plausible(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"));
        assert!(!plausible(b"abababababababab"));
    }
}
