//! The safety number, shown as digits and as a QR code, and read from either.

use std::fmt::Write;

use mildam_e2ee::{SafetyNumber, safety_number};
use qrcode::types::Color;
use qrcode::{EcLevel, QrCode};

use crate::error::Error;
use crate::model::SafetyNumberView;

/// The widest picture that is looked at, in pixels.
const MAX_PIXELS: u32 = 8_000;

impl SafetyNumberView {
    pub(crate) fn new(number: &SafetyNumber) -> Result<Self, Error> {
        let groups = number.groups();
        let code = QrCode::with_error_correction_level(groups.concat(), EcLevel::M)
            .map_err(|_| Error::internal("QR code"))?;
        let width = code.width();
        let mut qr_path = String::new();
        for (at, color) in code.to_colors().into_iter().enumerate() {
            if color == Color::Dark
                && let (Some(x), Some(y)) = (at.checked_rem(width), at.checked_div(width))
            {
                let _ = write!(qr_path, "M{x} {y}h1v1h-1z");
            }
        }
        Ok(Self { groups, qr_path, qr_size: u32::try_from(width).unwrap_or(0) })
    }

    /// Whether a typed or pasted text is this number. Whatever stands between the digits is passed
    /// over; digits of other scripts count (１２３).
    ///
    /// # Errors
    /// `bad_safety_number` if there are not 60 digits, `safety_number_differs`.
    pub(crate) fn compare(&self, text: &str) -> Result<(), Error> {
        let digits = safety_number::digits(text).map_err(|count| {
            let wanted = safety_number::DIGITS;
            Error::new(
                "bad_safety_number",
                format!("A safety number has {wanted} digits; these are {count}."),
            )
            .with("count", count)
        })?;
        if digits == self.groups.concat() {
            return Ok(());
        }
        Err(Error::new(
            "safety_number_differs",
            "The numbers differ. Somebody may stand between you, or you compare with another person.",
        ))
    }
}

/// The text of the QR code in a picture (PNG or JPEG).
///
/// # Errors
/// `bad_picture` if it cannot be read or shows no code.
pub(crate) fn read_qr(picture: &[u8]) -> Result<String, Error> {
    let bad = |what: &str| Error::new("bad_picture", format!("{what}."));
    let mut reader = image::ImageReader::new(std::io::Cursor::new(picture))
        .with_guessed_format()
        .map_err(|_| bad("The picture cannot be read"))?;
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_PIXELS), Some(MAX_PIXELS));
    reader.limits(limits);
    let picture = reader.decode().map_err(|_| bad("The picture cannot be read"))?.to_luma8();
    let mut prepared = rqrr::PreparedImage::prepare(picture);
    let found = prepared.detect_grids().into_iter().find_map(|grid| grid.decode().ok());
    found.map(|(_, text)| text).ok_or_else(|| bad("There is no QR code in the picture"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(digit: char) -> SafetyNumberView {
        let groups = vec![digit.to_string().repeat(5); 12];
        SafetyNumberView { groups, qr_path: String::new(), qr_size: 0 }
    }

    // REQ C4
    #[test]
    fn numbers_are_compared_as_people_type_them() {
        let number = view('7');
        for text in
            ["77777 ".repeat(12), "7".repeat(60), "７".repeat(60), format!("안전번호: {}", "7".repeat(60))]
        {
            assert_eq!(number.compare(&text), Ok(()), "{text}");
        }
        assert_eq!(number.compare(&"8".repeat(60)).unwrap_err().code(), "safety_number_differs");
        assert_eq!(number.compare(&"7".repeat(59)).unwrap_err().code(), "bad_safety_number");
        assert_eq!(number.compare("").unwrap_err().code(), "bad_safety_number");
    }

    // REQ C4
    #[test]
    fn a_qr_code_is_read_from_a_picture() {
        let digits = "12345".repeat(12);
        let code = QrCode::with_error_correction_level(&digits, EcLevel::M).unwrap();
        let width = code.width();
        let size = u32::try_from(width).unwrap() * 4 + 32;
        let colors = code.to_colors();
        let picture = image::GrayImage::from_fn(size, size, |x, y| {
            let place = |at: u32| usize::try_from(at).unwrap().checked_sub(16).map(|at| at / 4);
            let dark = place(x).zip(place(y)).filter(|(x, y)| *x < width && *y < width);
            image::Luma([if dark.is_some_and(|(x, y)| colors[y * width + x] == Color::Dark) {
                0
            } else {
                255
            }])
        });
        let mut png = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
        assert_eq!(read_qr(png.get_ref()).unwrap(), digits);
        let blank = image::GrayImage::from_pixel(64, 64, image::Luma([255]));
        let mut png = std::io::Cursor::new(Vec::new());
        blank.write_to(&mut png, image::ImageFormat::Png).unwrap();
        assert_eq!(read_qr(png.get_ref()).unwrap_err().code(), "bad_picture");
        assert_eq!(read_qr(b"not a picture").unwrap_err().code(), "bad_picture");
    }
}
