// The code book in workgroup memory, COPIES times: neighbours read random entries, which collide in fewer
// banks the fewer of them share a copy. Entries are words, or pairs of words (PAIRS).
var<private> book_copy: u32;
//@ if !PAIRS
var<workgroup> book_words: array<u32, BOOK * COPIES>;

fn book(i: u32) -> u32 {
    return book_words[i * COPIES + book_copy];
}
//@ else
var<workgroup> book_words: array<vec2<u32>, BOOK * COPIES>;

fn book2(i: u32) -> vec2<u32> {
    return book_words[i * COPIES + book_copy];
}
//@ end

// What each invocation does first, before a barrier.
fn load_book(lid: u32) {
    book_copy = lid % COPIES;
    for (var i = lid; i < BOOK * COPIES; i += WG) {
        //@ if !PAIRS
        book_words[i] = w1[i / COPIES];
        //@ else
        book_words[i] = vec2<u32>(w1[i / COPIES * 2u], w1[i / COPIES * 2u + 1u]);
        //@ end
    }
}
