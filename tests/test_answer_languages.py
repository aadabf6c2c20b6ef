"""The usual ways to answer in thirty languages, and how each of them denies."""

import pytest

from hf_llambert import ABSTAIN, TaskSpec

# Of each language: a label and its opposite, answers that name the first, answers that deny it.
LANGUAGES = {
    "de": (
        ("positiv", "negativ"),
        [
            "Das Sentiment ist positiv.", "Dieser Text ist positiv.", "Antwort: positiv",
            "Der Text ist positiv.", "Die Stimmung ist positiv.",
        ],
        [
            "Das Sentiment ist nicht positiv.", "Dieser Text ist kein positiv.",
        ],
    ),
    "fr": (
        ("positif", "négatif"),
        [
            "Le sentiment est positif.", "Ce texte est positif.", "Réponse : positif",
            "Le sentiment exprimé est positif.", "La réponse est : positif",
        ],
        [
            "Le sentiment n'est pas positif.", "Ce texte n'est jamais positif.",
        ],
    ),
    "es": (
        ("positivo", "negativo"),
        [
            "El sentimiento es positivo.", "Este texto es positivo.", "Respuesta: positivo",
            "La respuesta es: positivo.", "El texto es positivo.",
        ],
        [
            "El sentimiento no es positivo.", "Este texto nunca es positivo.",
        ],
    ),
    "it": (
        ("positivo", "negativo"),
        [
            "Il sentimento è positivo.", "Questo testo è positivo.", "Risposta: positivo",
            "Il testo è positivo.",
        ],
        [
            "Il sentimento non è positivo.", "Questo testo è tutt'altro che positivo.",
        ],
    ),
    "pt": (
        ("positivo", "negativo"),
        [
            "O sentimento é positivo.", "Este texto é positivo.", "Resposta: positivo", "O texto é positivo.",
        ],
        [
            "O sentimento não é positivo.", "Este texto nunca é positivo.",
        ],
    ),
    "nl": (
        ("positief", "negatief"),
        [
            "Het sentiment is positief.", "Deze tekst is positief.", "Antwoord: positief",
            "De tekst is positief.", "Het antwoord is positief.",
        ],
        [
            "Het sentiment is niet positief.", "Deze tekst is nooit positief.",
        ],
    ),
    "pl": (
        ("pozytywny", "negatywny"),
        [
            "Sentyment jest pozytywny.", "Ten tekst jest pozytywny.", "Odpowiedź: pozytywny",
            "Wydźwięk jest pozytywny.",
        ],
        [
            "Sentyment nie jest pozytywny.", "Ten tekst jest daleki od pozytywny.",
        ],
    ),
    "ru": (
        ("положительный", "отрицательный"),
        [
            "Сентимент положительный.", "Этот текст положительный.", "Ответ: положительный",
            "Тональность: положительный", "Этот отзыв является положительный.",
        ],
        [
            "Этот текст не положительный.", "Этот отзыв вряд ли положительный.",
        ],
    ),
    "uk": (
        ("позитивний", "негативний"),
        [
            "Настрій позитивний.", "Цей текст позитивний.", "Відповідь: позитивний", "Тональність: позитивний",
            "Цей відгук є позитивний.",
        ],
        [
            "Цей текст не позитивний.", "Цей відгук навряд чи позитивний.",
        ],
    ),
    "tr": (
        ("olumlu", "olumsuz"),
        [
            "Duygu olumlu.", "Bu metin olumlu.", "Cevap: olumlu", "Bu metin olumludur.", "Yanıt: olumlu",
            "Bu yorum olumludur.",
        ],
        [
            "Bu metin olumlu değil.", "Bu yorum olumlu değildir.",
        ],
    ),
    "sv": (
        ("positiv", "negativ"),
        [
            "Sentimentet är positiv.", "Denna text är positiv.", "Svar: positiv", "Texten är positiv.",
            "Den här texten är positiv.",
        ],
        [
            "Sentimentet är inte positiv.", "Texten är knappast positiv.",
        ],
    ),
    "da": (
        ("positiv", "negativ"),
        [
            "Stemningen er positiv.", "Denne tekst er positiv.", "Svar: positiv", "Teksten er positiv.",
            "Sentimentet er positiv.",
        ],
        [
            "Stemningen er ikke positiv.", "Teksten er næppe positiv.",
        ],
    ),
    "no": (
        ("positiv", "negativ"),
        [
            "Sentimentet er positiv.", "Denne teksten er positiv.", "Svar: positiv", "Teksten er positiv.",
        ],
        [
            "Sentimentet er ikke positiv.", "Teksten er neppe positiv.",
        ],
    ),
    "fi": (
        ("positiivinen", "negatiivinen"),
        [
            "Tunnesävy on positiivinen.", "Tämä teksti on positiivinen.", "Vastaus: positiivinen",
            "Arvostelu on positiivinen.", "Sentimentti on positiivinen.",
        ],
        [
            "Tunnesävy ei ole positiivinen.", "Teksti on tuskin positiivinen.",
        ],
    ),
    "cs": (
        ("pozitivní", "negativní"),
        [
            "Sentiment je pozitivní.", "Tento text je pozitivní.", "Odpověď: pozitivní", "Recenze je pozitivní.",
        ],
        [
            "Sentiment není pozitivní.", "Tento text je sotva pozitivní.",
        ],
    ),
    "hu": (
        ("pozitív", "negatív"),
        [
            "A hangulat pozitív.", "Ez a szöveg pozitív.", "Válasz: pozitív", "Az értékelés pozitív.",
            "A szöveg pozitív.",
        ],
        [
            "A hangulat nem pozitív.", "Ez a szöveg aligha pozitív.",
        ],
    ),
    "ro": (
        ("pozitiv", "negativ"),
        [
            "Sentimentul este pozitiv.", "Acest text este pozitiv.", "Răspuns: pozitiv", "Textul este pozitiv.",
            "Recenzia este pozitiv.",
        ],
        [
            "Sentimentul nu este pozitiv.", "Acest text nu e pozitiv.",
        ],
    ),
    "el": (
        ("θετικό", "αρνητικό"),
        [
            "Το συναίσθημα είναι θετικό.", "Αυτό το κείμενο είναι θετικό.", "Απάντηση: θετικό",
            "Το κείμενο είναι θετικό.", "Η απάντηση είναι θετικό.",
        ],
        [
            "Το συναίσθημα δεν είναι θετικό.", "Το κείμενο μόλις είναι θετικό.",
        ],
    ),
    "ar": (
        ("إيجابي", "سلبي"),
        [
            "الشعور إيجابي.", "هذا النص إيجابي.", "الإجابة: إيجابي", "المشاعر هي إيجابي", "النص إيجابي",
        ],
        [
            "هذا النص ليس إيجابي.", "المشاعر غير إيجابي",
        ],
    ),
    "fa": (
        ("مثبت", "منفی"),
        [
            "احساس مثبت است.", "این متن مثبت است.", "پاسخ: مثبت", "احساس متن مثبت است",
        ],
        [
            "این متن مثبت نیست.", "احساس غیر مثبت است",
        ],
    ),
    "he": (
        ("חיובי", "שלילי"),
        [
            "הסנטימנט הוא חיובי.", "הטקסט הזה חיובי.", "תשובה: חיובי", "הטקסט חיובי", "הטקסט הזה הוא חיובי",
        ],
        [
            "הטקסט לא חיובי.", "הסנטימנט אינו חיובי.",
        ],
    ),
    "hi": (
        ("सकारात्मक", "नकारात्मक"),
        [
            "भावना सकारात्मक है।", "यह पाठ सकारात्मक है।", "उत्तर: सकारात्मक", "यह समीक्षा सकारात्मक है।",
        ],
        [
            "यह पाठ सकारात्मक नहीं है।", "भावना सकारात्मक नहीं।",
        ],
    ),
    "id": (
        ("positif", "negatif"),
        [
            "Sentimennya positif.", "Teks ini positif.", "Jawaban: positif",
            "Sentimen ulasan ini adalah positif.", "Ulasan ini positif.", "Teks ini bersifat positif.",
        ],
        [
            "Teks ini tidak positif.", "Sentimen bukan positif.",
        ],
    ),
    "vi": (
        ("tích cực", "tiêu cực"),
        [
            "Cảm xúc là tích cực.", "Văn bản này là tích cực.", "Câu trả lời: tích cực", "Trả lời: tích cực",
            "Đánh giá này tích cực.",
        ],
        [
            "Văn bản này không tích cực.", "Cảm xúc chẳng tích cực.",
        ],
    ),
    "th": (
        ("เชิงบวก", "เชิงลบ"),
        [
            "ความรู้สึกเป็นเชิงบวก", "ข้อความนี้เป็นเชิงบวก", "คำตอบ: เชิงบวก", "ความรู้สึกคือเชิงบวก",
        ],
        [
            "ข้อความนี้ไม่เป็นเชิงบวก", "ความรู้สึกไม่ใช่เชิงบวก",
        ],
    ),
    "zh": (
        ("积极", "消极"),
        [
            "情感是积极的。", "这段文字是积极的。", "答案：积极", "这个文本是积极的", "情绪是积极",
            "该文本的情感是积极的。",
        ],
        [
            "情感不是积极的。", "这段文字并不积极。",
        ],
    ),
    "ja": (
        ("肯定的", "否定的"),
        [
            "感情は肯定的です。", "このテキストは肯定的です。", "答え：肯定的", "この文章は肯定的である。",
            "回答：肯定的",
        ],
        [
            "感情は肯定的ではありません。", "このテキストは肯定的とは言えない。",
        ],
    ),
    "ko": (
        ("긍정", "부정"),
        [
            "감정은 긍정입니다.", "이 텍스트는 긍정입니다.", "답변: 긍정", "이 문장은 긍정적입니다.", "답: 긍정",
        ],
        [
            "감정은 긍정이 아닙니다.", "이 텍스트는 긍정적이지 않습니다.",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_usual_answers_of_a_language_are_read_and_its_denials_are_not(language):
    labels, named, denied = LANGUAGES[language]
    task = TaskSpec(name="t", labels=labels, instruction="{text}")
    assert [answer for answer in named if task.read(answer) != (0, None)] == []
    assert [answer for answer in denied if task.parse(answer) != ABSTAIN] == []
