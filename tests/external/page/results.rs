//! Display of results in the UI.

use serde_json::json;
use wordmill_tests::site::Page;

use super::Visit;

#[test]
fn the_words_of_a_text_can_be_searched_sorted_and_downloaded() {
    let visit = Visit::start();
    let browser = &visit.browser;
    browser
        .fill("#input", "The mill — the wheel and/or the river: 2024, 7, __proto__ and the mill");
    browser.wait_for_text("#input-kind", "Text of 70 characters");
    browser.press("\u{e004}");
    let job_id =
        visit.count("The mill — the wheel and/or the river: 2024, 7, __proto__ and the mill");
    browser.wait_for_text(".figure", "14");
    // The table lists all rules and marks the selected one.
    browser.wait_for_text(".rules tbody tr:nth-child(1)", "selected");
    browser.wait_for_text(".rules tbody tr:nth-child(2)", "White space");
    browser.wait_for_text(".tokens", "and/or");
    // Objects of JavaScript reorder numeric keys and treat `__proto__` specially. The table must
    // show such words like all others.
    let words = "return [...document.querySelectorAll('.all tbody td:first-child')]\
                 .map(cell => cell.textContent)";
    browser.wait_for_script("return document.querySelectorAll('.all tbody tr').length === 9");
    let expected = json!(["the", "and", "mill", "2024", "7", "__proto__", "or", "river", "wheel"]);
    assert_eq!(browser.run_script(words, &[]), expected);

    browser.click("th:nth-child(1) button");
    browser.wait_for_script(
        "return document.querySelector('.all th').getAttribute('aria-sort') === 'ascending'",
    );
    let sorted = json!(["__proto__", "7", "2024", "and", "mill", "or", "river", "the", "wheel"]);
    assert_eq!(browser.run_script(words, &[]), sorted);
    browser.click("th:nth-child(1) button");
    assert_eq!(browser.run_script(words, &[])[0], "wheel");
    browser.click("th:nth-child(2) button");
    assert_eq!(browser.run_script(words, &[])[0], "the");
    browser.fill("#search", "I");
    browser.wait_for_text("#found-words", "2 of 9 words");
    assert_eq!(browser.run_script(words, &[]), json!(["mill", "river"]));
    browser.fill("#search", "xyz");
    browser.wait_for_text("#found-words", "0 of 9 words");

    browser.click("a[download$='.csv']");
    let csv = std::fs::read_to_string(browser.wait_for_download(&format!("words-{job_id}.csv")))
        .expect("a file");
    assert!(csv.starts_with("word,count\r\nthe,4\r\n"), "{csv}");
    browser.click("a[download$='.json']");
    let saved_result =
        std::fs::read(browser.wait_for_download(&format!("words-{job_id}.json"))).expect("a file");
    let saved_result: serde_json::Value = serde_json::from_slice(&saved_result).expect("JSON");
    assert_eq!(saved_result, visit.client().result(&job_id));
    let digest = saved_result["source"]["sha256"].as_str().expect("a digest");
    browser.wait_for_text(".details", digest);
    visit.assert_clean(&[]);
}

#[test]
fn a_japanese_page_shows_why_the_rules_differ() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let path = wordmill_tests::repository().join("docs/samples/japanese.html");
    let page = Page::new("text/html", std::fs::read(path).expect("a sample"));
    let url = visit.site.put("/japanese.html", page);
    visit.count(&url);
    browser.wait_for_text(".figure", "25");
    browser.wait_for_text(".sentence", "Office counts 23 words more than Unicode.");
    browser.wait_for_text(".reasons", "text in a script without spaces");
    browser.wait_for_text(".tokens", "図書館で本を読む");
    browser.run_script(
        "const right = document.querySelector('#right'); right.value = 'whitespace';
         right.dispatchEvent(new Event('change', {bubbles: true}))",
        &[],
    );
    browser.wait_for_text(".sentence", "White space counts 20 words fewer than Unicode.");
    browser.wait_for_text(".chart", "図書館");
    let language = "return document.querySelector('.chart bdi').lang";
    assert_eq!(browser.run_script(language, &[]), "ja");
    browser.wait_for_text(".details", "utf-8, from a meta element");
    visit.assert_clean(&[]);
}

#[test]
fn the_warnings_of_a_job_are_described() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let page = "<p>Loading<script>f()</script><p hidden>two words</p>";
    visit.count(&visit.site.put("/shell", Page::new("text/html; charset=utf-8", page)));
    let script_page = "The page has hardly any words, but 1 script.";
    browser.wait_for_text(".warnings li:nth-child(1)", script_page);
    let hidden = "Hidden text was not counted: 8 characters without spaces. hidden_text_present";
    browser.wait_for_text(".warnings li:nth-child(2)", hidden);
    visit.count("—");
    browser.wait_for_text(".warnings", "No words were found. no_text_found");
    visit.assert_clean(&[]);
}

#[test]
fn a_table_of_50000_words_stays_responsive() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let word = |i: u32| format!("w{i:05}x");
    let text: Vec<String> = (0..50_000).map(word).collect();
    let url = visit.site.put("/words", Page::new("text/plain", text.join(" ")));
    visit.count(&url);
    browser.wait_for_text(".figure", "50,000");
    browser.wait_for_text("#found-words", "50,000 unique words");
    let rows = "return document.querySelectorAll('.all tbody tr').length";
    let row_count = browser.run_script(rows, &[]).as_u64().expect("a number");
    assert!(row_count < 2000, "{row_count} rows");
    let count = browser
        .run_script("return document.querySelector('.all').getAttribute('aria-rowcount')", &[]);
    assert_eq!(count, "50001");
    // The keys End and Home scroll to the end of the table and back.
    browser.run_script("document.querySelector('.scroll').focus()", &[]);
    for _ in 0..20 {
        browser.press("\u{e010}");
        browser.wait_for_text(".all", "w49999x");
        browser.wait_for_script(
            "const {scrollTop, clientHeight, scrollHeight} = document.querySelector('.scroll');
             return scrollHeight - clientHeight - scrollTop < 2",
        );
        let row_count = browser.run_script(rows, &[]).as_u64().expect("a number");
        assert!(row_count < 2000, "{row_count} rows");
        browser.press("\u{e011}");
        browser.wait_for_text(".all", "w00000x");
        browser.wait_for_script("return document.querySelector('.scroll').scrollTop === 0");
    }
    browser.fill("#search", "4999");
    // w04999x, w14999x and so on, and w49990x to w49999x.
    browser.wait_for_text("#found-words", "15 of 50,000 words");
    visit.assert_clean(&[]);
}
