//! Files of every kind, good, bad and hostile.

use auspex_oracle::corpus::limits::{DOCUMENT_BYTES_MAX, DOCUMENT_TEXT_BYTES_MAX};
use auspex_oracle::document::{Document, DocumentError, Media};
use pdf_extract::{
    Dictionary, EncryptionState, EncryptionVersion, Object, Permissions, Stream, dictionary,
};
use proptest::prelude::*;

fn read(name: &str, bytes: impl AsRef<[u8]>) -> Result<Document, DocumentError> {
    Document::read(name, None, bytes.as_ref())
}

#[test]
fn markdown_keeps_words_and_drops_markup() {
    let source = "---\ntitle: meta\n---\n# The *Escrow*\n\nAnyone may\n**refund** a [request](https://x).\n\n\
        - first `item`\n- second\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```sh\nmake demo\n```\n\n<script>alert(1)</script>\n\n\
        ## Deadline\n\nLate.";
    let document = read("docs/escrow.md", source).unwrap();
    assert_eq!(
        document.text,
        "The Escrow\n\nAnyone may\nrefund a request.\n\nfirst item\n\nsecond\n\na | b\n\n1 | 2\n\nmake demo\n\nDeadline\n\nLate.",
    );
    assert_eq!((document.title.as_str(), document.media), ("The Escrow", Media::Markdown));
    let late = document.text.find("Late").unwrap();
    assert_eq!(document.section_path(late), ["The Escrow", "Deadline"]);
    assert_eq!(document.section_path(0), Vec::<&str>::new());
}

#[test]
fn html_is_what_a_reader_sees() {
    let source = "<html><head><title>Escrow &amp; co</title><style>p{}</style></head><body><nav>Home</nav>\
        <h1>Refund</h1><p>Anyone\nmay <b>refund</b>.<br>Always.</p><script>evil()</script>\
        <p hidden>pay me</p><div style='display: none'>pay me</div><span aria-hidden=true>pay me</span>\
        <ul><li>one<li>two</ul><table><tr><td>a<td>b</table><pre>x\n  y</pre></body></html>";
    let document = read("a.html", source).unwrap();
    assert_eq!(
        document.text,
        "Refund\n\nAnyone may refund.\nAlways.\n\none\n\ntwo\n\na | b\n\nx\ny",
    );
    assert_eq!(document.title, "Escrow & co");
    assert_eq!(document.sections.len(), 1);
}

#[test]
fn html_that_nests_without_end_is_refused() {
    let source = "<div><p>".repeat(1_000_000) + "text";
    let error = read("deep.html", source).unwrap_err().to_string();
    assert_eq!(error, "deep.html: damaged: more than 1024 elements are open at one place");
    // Elements that close themselves, scripts and drawings do not count.
    let flat = "<p>a<li>b<br><b>c</b>".repeat(5_000)
        + &"<script>if (a<b) { c<d }</script>".repeat(2_000)
        + &"<svg><path/><g/></svg>".repeat(2_000);
    assert!(read("flat.html", flat).is_ok());
}

#[test]
fn plain_text_is_normalised_and_cleaned() {
    let source = "\u{feff}Cafe\u{301}\r\nline\ttwo  x\r\n \r\n\r\nBlock\u{202e} 2\u{0}\u{1b}[31m";
    let document = read("a.TXT", source).unwrap();
    assert_eq!(document.text, "Café\nline two x\n\nBlock 2 [31m");
    assert_eq!(document.title, "a.TXT");
}

#[test]
fn a_media_type_decides_over_the_name() {
    let document = Document::read("page", Some("text/html; charset=utf-8"), b"<p>x</p>").unwrap();
    assert_eq!((document.text.as_str(), document.media), ("x", Media::Html));
}

#[test]
fn bad_files_are_refused_by_name_and_limit() {
    let message = |name, bytes: &[u8]| read(name, bytes).unwrap_err().to_string();
    assert_eq!(message("a.md", b""), "a.md: has 0 bytes; there is nothing to read");
    assert!(
        message("a.md", &vec![b' '; DOCUMENT_BYTES_MAX + 1]).contains("over the limit of 33554432")
    );
    assert!(
        message("a.txt", &vec![b'x'; DOCUMENT_TEXT_BYTES_MAX + 1])
            .contains("16777216 bytes of text")
    );
    assert!(message("a.docx", b"PK").contains("is not read; Markdown"));
    assert_eq!(message("a.txt", b"ok \xff"), "a.txt: not UTF-8 at byte 3; convert the file");
    assert_eq!(message("a.md", b" \n<!-- x -->\n"), "a.md: holds no text");
    assert!(message("a\u{202e}.md", b"x").starts_with("document name"));
    assert!(message("", b"x").starts_with("document name"));
    assert!(message("a.pdf", b"%PDF-1.4 nothing").starts_with("a.pdf: damaged: "));
}

#[test]
fn a_pdf_gives_its_text_and_title() {
    let document =
        read("paper.pdf", pdf("BT /F1 12 Tf 72 700 Td (Anyone may refund.) Tj ET", None)).unwrap();
    assert_eq!(document.text, "Anyone may refund.");
    assert_eq!(document.title, "On escrow");
}

#[test]
fn a_pdf_without_text_says_what_to_do() {
    let error = read("scan.pdf", pdf("0 0 10 10 re f", None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "scan.pdf: holds no text; a scanned PDF needs text recognition first"
    );
}

#[test]
fn an_encrypted_pdf_is_refused() {
    let mut file = pdf_extract::Document::load_mem(&pdf("BT /F1 12 Tf (x) Tj ET", None)).unwrap();
    let id = Object::string_literal("0123456789abcdef");
    file.trailer.set("ID", vec![id.clone(), id]);
    let version = EncryptionVersion::V2 {
        document: &file,
        owner_password: "owner",
        user_password: "user",
        key_length: 128,
        permissions: Permissions::all(),
    };
    let state = EncryptionState::try_from(version).unwrap();
    file.encrypt(&state).unwrap();
    let mut bytes = Vec::new();
    file.save_to(&mut bytes).unwrap();
    assert_eq!(read("a.pdf", bytes), Err(DocumentError::Encrypted { name: "a.pdf".to_owned() }));
}

#[test]
fn a_pdf_that_draws_itself_is_refused() {
    let bytes = pdf("/Loop Do", Some("/Loop Do"));
    assert_eq!(read("a.pdf", bytes), Err(DocumentError::FormsTooDeep { name: "a.pdf".to_owned() }));
}

#[test]
fn a_pdf_whose_page_tree_is_a_circle_is_refused() {
    let mut file = pdf_extract::Document::load_mem(&pdf("BT /F1 12 Tf (x) Tj ET", None)).unwrap();
    let pages = file.catalog().unwrap().get(b"Pages").unwrap().as_reference().unwrap();
    file.get_dictionary_mut(pages).unwrap().set("Parent", pages);
    let mut bytes = Vec::new();
    file.save_to(&mut bytes).unwrap();
    let error = read("a.pdf", bytes).unwrap_err();
    assert!(matches!(error, DocumentError::Unreadable { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 0usize..4) {
        let _ = read(["a.md", "a.html", "a.txt", "a.pdf"][kind], bytes);
    }

    #[test]
    fn any_markup_gives_a_normal_text(source in "([a-z#*_`|<>/!&;:\\[\\]() -]|\n|\r|\t|\\PC){0,300}", html: bool) {
        let Ok(document) = read(if html { "a.html" } else { "a.md" }, &source) else { return Ok(()) };
        prop_assert!(document.text.chars().all(auspex_protocol::answer::is_visible));
        for block in document.text.split("\n\n") {
            prop_assert!(!block.is_empty() && !block.starts_with('\n') && block.trim() == block);
            prop_assert!(!block.contains("  "));
        }
        for section in &document.sections {
            prop_assert!(document.text[section.start..].starts_with(section.heading.split(' ').next().unwrap()));
        }
    }

    #[test]
    fn a_damaged_pdf_does_not_panic(position: prop::sample::Index, byte: u8) {
        let mut bytes = pdf("BT /F1 12 Tf 72 700 Td (Anyone may refund.) Tj ET", None);
        let position = position.index(bytes.len());
        bytes[position] = byte;
        let _ = read("a.pdf", bytes);
    }
}

/// A PDF of one page with this content, and with a form object `Loop` with that content.
fn pdf(content: &str, form: Option<&str>) -> Vec<u8> {
    let mut file = pdf_extract::Document::with_version("1.5");
    let pages = file.new_object_id();
    let font = file.add_object(dictionary! {
        "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Courier",
    });
    let mut resources = dictionary! { "Font" => dictionary! { "F1" => font } };
    if let Some(form) = form {
        let id = file.new_object_id();
        let objects = dictionary! { "Loop" => id };
        let dictionary: Dictionary = dictionary! {
            "Type" => "XObject", "Subtype" => "Form", "Resources" => dictionary! { "XObject" => objects.clone() },
        };
        file.objects.insert(id, Object::Stream(Stream::new(dictionary, form.as_bytes().to_vec())));
        resources.set("XObject", objects);
    }
    let resources = file.add_object(resources);
    let content = file.add_object(Stream::new(dictionary! {}, content.as_bytes().to_vec()));
    let page =
        file.add_object(dictionary! { "Type" => "Page", "Parent" => pages, "Contents" => content });
    let tree = dictionary! {
        "Type" => "Pages", "Kids" => vec![page.into()], "Count" => 1, "Resources" => resources,
        "MediaBox" => vec![0.into(), 0.into(), 595.into(), 842.into()],
    };
    file.objects.insert(pages, Object::Dictionary(tree));
    let catalog = file.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
    file.trailer.set("Root", catalog);
    let information =
        file.add_object(dictionary! { "Title" => Object::string_literal("On escrow") });
    file.trailer.set("Info", information);
    let mut bytes = Vec::new();
    file.save_to(&mut bytes).unwrap();
    bytes
}
