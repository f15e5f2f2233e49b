//! The texts of the self-test. What counts is that each kind of trouble occurs, not that they read well.
//!
//! Characters beyond Unicode 9 are in here on purpose: a normaliser with other tables would show. A literal `<0x0A>` is
//! not: Unigram tokenizers take it for that byte, so that prompts with it look less cached than they are, never more.

/// Named texts: written ones, and pseudo-random ones that are the same in every run.
pub(super) fn texts() -> impl Iterator<Item = (&'static str, String)> {
    let written = WRITTEN.iter().map(|(name, text)| (*name, (*text).to_owned()));
    let all = WRITTEN.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n");
    written.chain([("all of them", all)]).chain((0..RANDOM_TEXTS).map(|seed| ("random characters", random(seed))))
}

/// A special token in the places where templates put one.
pub(super) fn around(special: &str) -> String {
    format!("{special}system\nBe brief.{special}\n\n{special} user: 1+1? {special}{special}  \n好的{special}")
}

const RANDOM_TEXTS: u64 = 64;
const RANDOM_CHARS: usize = 96;

/// Characters of one block at a time, so that scripts join and marks combine.
fn random(seed: u64) -> String {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state >> 40).unwrap_or_default()
    };
    // A mark that composes with the character before the text would bind to a special token: none comes first.
    let mut text = String::from("x");
    while text.len() < RANDOM_CHARS {
        let block = next() % 0x300;
        for _ in 0..next() % 12 {
            text.extend(char::from_u32((block << 8) | (next() & 0xff)));
        }
        text.push(if next() & 1 == 0 { ' ' } else { 'x' });
    }
    text
}

const WRITTEN: &[(&str, &str)] = &[
    ("empty", ""),
    ("one space", " "),
    ("leading space", " The quick brown fox doesn't jump; it's 3.14159 and 1,234,567 times I'll've said so."),
    ("leading spaces", "   indented"),
    ("trailing spaces", "ends here   \n  "),
    ("line breaks", "\n\nfirst\r\nsecond\n\n\n\nthird\rfourth\n \n\t\n"),
    (
        "white space runs",
        "a b  c   d    e                                   f\t\tg\t\t\t\th \u{a0}\u{2003}\u{3000}i\u{200b}j\u{2028}k\u{85}l",
    ),
    (
        "english",
        "# Title\n\nIt was the best of times, it was the WORST of times — “quoted”, ‘single’, e.g. naïve café…\n* item 1\n* item 2\n",
    ),
    (
        "rust",
        "fn main() -> Result<(), Box<dyn Error>> {\n    let x: Vec<_> = (0..10).map(|i| i << 2).collect();\n\tprintln!(\"{x:?}\"); // ok\n}\n",
    ),
    (
        "python",
        "def f(self, *args, **kw):\n    \"\"\"Doc.\"\"\"\n    return [i for i in args if i != 0x1F] or None\n\n\n",
    ),
    ("json", "{\"a\": [1, 2.50, -3e-10, null, true], \"b\\u00e9\": \"\\\"x\\\"\\n\", \"c\": {}}"),
    ("base64", "TWFuIGlzIGRpc3Rpbmd1aXNoZWQsIG5vdCBvbmx5IGJ5IGhpcyByZWFzb24sIGJ1dA==/+0a1B2c3D"),
    ("digits", "0 12 345 6789 01234567890123456789 ٠١٢٣ १२३ ①② ½ ² Ⅷ"),
    ("punctuation", "!@#$%^&*()_+-=[]{}|;':\",./<>?`~ … --- === *** ``` ~~~ <<<>>> ::->=>!=== 'S'T'RE'Ve"),
    (
        "control characters",
        "\u{0}\u{1}\u{7}\u{8}\u{b}\u{c}\u{1b}[0m\u{7f}\u{80}\u{9f}\u{ad}\u{feff}x\u{fffd}\u{fffe}\u{ffff}",
    ),
    ("emoji", "😀👍🏽👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🇯🇵1️⃣❤️🫠 🧑🏿‍🚀x🥲"),
    ("chinese", "你好，世界！我们今天去北京大学。繁體字與簡體字。「引號」《书名》"),
    ("japanese", "こんにちは世界。カタカナとひらがな、漢字。ﾊﾝｶｸ ｶﾞ が"),
    ("korean", "안녕하세요 세계! 한국어 텍스트입니다. \u{1112}\u{1161}\u{11ab}"),
    ("arabic", "مرحبا بالعالم، كيف حالك؟ السَّلَامُ عَلَيْكُمْ ﷺ"),
    ("hebrew", "שָׁלוֹם עוֹלָם, מה שלומך?"),
    ("hindi", "नमस्ते दुनिया, आप कैसे हैं? क़ख़ग़ क\u{93c}"),
    ("bengali", "ওহে বিশ্ব! ড়ঢ়য় ড\u{9bc}"),
    ("tamil", "வணக்கம் உலகம் கொ க\u{bc6}\u{bbe}"),
    ("thai", "สวัสดีชาวโลก กำลังทดสอบ"),
    ("russian", "Привет, мир! Съешь же ещё этих мягких французских булок. йё"),
    ("greek", "Καλημέρα κόσμε· Ώρα \u{1f71} \u{3b1}\u{301}"),
    ("vietnamese", "Xin chào thế giới, tiếng Việt có nhiều dấu."),
    ("georgian, armenian, amharic", "გამარჯობა მსოფლიო Բարեւ աշխարհ ሰላም ልዑል"),
    ("decomposed", "cafe\u{301} A\u{30a} o\u{302}\u{323} q\u{307}\u{323} \u{212b} \u{2126} \u{958} x\u{338}"),
    ("compatibility", "ﬁﬂ ＡＢＣ１２３ ㎏ ™ ℌ ｶﾞ ⁵ ₅ ﹛ ‥"),
    ("beyond Unicode 9", "\u{1fae8}\u{1f9ff}\u{10f30}\u{11d70}\u{a7c7}\u{31350}\u{1e2c0} \u{11938}\u{1193e}"),
    ("private and unassigned", "\u{e000}\u{f8ff}\u{f0000}\u{10ffff}\u{378}\u{e0001}"),
    ("SentencePiece's space mark", "\u{2581}a\u{2581}\u{2581}b \u{2581}c\u{2581} \u{2581}"),
    ("looks like tokens", "Ġhello Ċ <s> </s> <|im_start|> <|endoftext|> [INST] <unk> ▁▁ ##ing</w> @@"),
    ("mathematics", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, ∑ᵢ aᵢ·bᵢ ≤ ‖a‖‖b‖ ⇒ 𝐱𝑦𝒛"),
];
