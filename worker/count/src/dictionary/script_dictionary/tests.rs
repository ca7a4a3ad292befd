use super::*;

const DICTIONARIES: [WritingSystem; 4] =
    [WritingSystem::Thai, WritingSystem::Lao, WritingSystem::Khmer, WritingSystem::Myanmar];

/// Returns the number of words in a dictionary, and the number of letters of the longest one.
fn measure(dictionary: &ScriptDictionary) -> (usize, usize) {
    let DictionaryBreakData::ZeroTrie { trie, .. } = dictionary.data else { panic!("no trie") };
    let mut words = 0;
    let mut longest = 0;
    let mut prefixes = vec![(trie.cursor(), 0)];
    while let Some((mut cursor, length)) = prefixes.pop() {
        if cursor.take_value().is_some() {
            words += 1;
            longest = longest.max(length);
        }
        let siblings = cursor.clone().probe(0).map_or(0, |probe| probe.total_siblings);
        for index in 0..siblings {
            let mut next = cursor.clone();
            next.probe(index.into()).unwrap();
            prefixes.push((next, length + 1));
        }
    }
    (words, longest)
}

#[test]
fn no_dictionary_word_is_longer_than_the_lookahead_allows() {
    for writing in DICTIONARIES {
        let (words, longest) = measure(ScriptDictionary::get(writing).unwrap());
        assert!(words > 20_000, "{writing:?}: {words}");
        assert!(longest <= WORD_LETTERS_MAX, "{writing:?}: {longest}");
    }
}

#[test]
fn candidates_are_all_words_with_which_a_text_begins() {
    let dictionary = ScriptDictionary::get(WritingSystem::Thai).unwrap();
    let letters: Vec<Letter> = "กลมๆ".chars().map(|c| dictionary.letter(c)).collect();
    let candidates = dictionary.candidates(&letters);
    assert_eq!(candidates.longest_first().collect::<Vec<_>>(), [3, 2]);
    assert_eq!(candidates.letters_read, 4);
}
