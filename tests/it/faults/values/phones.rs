//! Telephone numbers: the region of an import counts only for numbers without a country code, and
//! no digit of a number is taken for a prefix.

use sortie::kernel::validate::phone_in;

#[test]
fn numbers_with_a_country_code_stay_whatever_the_region() {
    let numbers = [
        "+78121234567",
        "+78432345678",
        "+37081234567",
        "+441632960961",
        "+8613812345678",
        "+33123456789",
        "+5511987654321",
        "+201001234567",
        "+39061234567",
        "+4930123456",
        "+14155552671",
        "+15551234567",
        "+80012345678",
        "+375296012345",
    ];
    for region in [
        None,
        Some("US"),
        Some("DE"),
        Some("GB"),
        Some("FR"),
        Some("AU"),
        Some("HU"),
        Some("BR"),
        Some("RU"),
        Some("IT"),
    ] {
        for number in numbers {
            let read = phone_in("phone", number, region).unwrap();
            assert_eq!((read.0.as_str(), read.1), (number, None), "{region:?}");
        }
    }
}

#[test]
fn numbers_are_read_as_people_write_them() {
    for (region, text, wanted) in [
        ("US", "+49 (0)30 123456", "+4930123456"),
        ("US", "0049 30 123456", "+4930123456"),
        ("AU", "0049 30 123456", "+4930123456"),
        ("AU", "0011 49 30 123456", "+4930123456"),
        ("US", "011 49 30 123456", "+4930123456"),
        ("JP", "010 49 30 123456", "+4930123456"),
        ("DE", "030 123456", "+4930123456"),
        ("DE", "030/123456", "+4930123456"),
        ("DE", "49 30 123456", "+4930123456"),
        ("AT", "4366412345678", "+4366412345678"),
        ("IT", "39061234567", "+39061234567"),
        ("GB", "442079460958", "+442079460958"),
        ("US", "14155552671", "+14155552671"),
        ("DE", "0170 1234567", "+491701234567"),
        ("US", "(415) 555-2671", "+14155552671"),
        ("US", "1-415-555-2671", "+14155552671"),
        ("US", "415-555-2671 ext. 12", "+14155552671 12"),
        ("GB", "020 7946 0958", "+442079460958"),
        ("GB", "+44 (0)20 7946 0958", "+442079460958"),
        ("", "+44 020 7946 0958", "+442079460958"),
        ("RU", "8 (812) 123-45-67", "+78121234567"),
        ("RU", "812 123-45-67", "+78121234567"),
        ("KZ", "8 701 123 4567", "+77011234567"),
        ("IT", "06 123 4567", "+39061234567"),
        ("HU", "06 1 234 5678", "+3612345678"),
        ("FR", "01 23 45 67 89", "+33123456789"),
        ("BR", "(11) 98765-4321", "+5511987654321"),
        ("AR", "011 15 2345-6789", "+5491123456789"),
        ("LT", "8 612 34567", "+37061234567"),
        ("SE", "08-123 456 78", "+46812345678"),
        ("CH", "044 668 18 00", "+41446681800"),
        ("IN", "098765 43210", "+919876543210"),
        ("", "tel:+49-30-123456", "+4930123456"),
        ("", "(+49) 30 123456", "+4930123456"),
        ("", "+1 800 FLOWERS", "+18003569377"),
        ("", "+4930123456x12", "+4930123456 12"),
        ("", "０049 30 123456", "+4930123456"),
        ("US", "030 123456", "another length"),
        ("", "+36061234567", "another length"),
        ("", "+4912", "another length"),
        ("", "+999123456789", "is not a telephone number"),
        ("", "12345", "has no country code"),
        ("", "+", "is not a telephone number"),
        ("", "00", "is not a telephone number"),
        ("", "tel:", "is not a telephone number"),
    ] {
        let read = phone_in("phone", text, Some(region).filter(|region| !region.is_empty()));
        match read {
            Ok((number, None)) => assert_eq!(number, wanted, "{region} {text}"),
            Ok((number, Some(extension))) => assert_eq!(format!("{number} {extension}"), wanted, "{region} {text}"),
            Err(err) => assert!(err.to_string().contains(wanted), "{region} {text}: {err}"),
        }
    }
}
