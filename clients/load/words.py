"""Writes messages of a wanted number of tokens, from a seed.

They consist of short common words. In today's vocabularies nearly all of them are one token with the blank before them;
how many tokens a word has at this server is measured once (`clients.load.preparation`). The conversation's number picks
the first word, so that no two conversations share a prefix by accident as long as there are words left.
"""

import numpy as np

from clients.trace import Trace, TraceConversation

BLOCK_TOKENS = 512  # that one of Mooncake's hash ids stands for

WORDS = """
able about above across act add after again age ago air all also always among and animal answer any appear area arm
art ask away baby back ball bank base bear beat bed been before began begin behind best better big bird black blood
blue board boat body book born both bottom box boy break bring brother brought brown build built burn busy buy call
came can car card care carry case cat catch cause cell center chair chance change charge check child city class
clean clear clock close cloud coat cold color come common control cook cool copy corn corner cost could count
country course cover cow cross cry cup current cut dance dark day dead deal dear deep degree did die direct do
doctor dog door down draw dream dress drink drive drop dry each early earth east easy eat edge egg eight else end
enemy energy engine enough enter even event ever every exact eye face fact fair fall family far farm fast father
fear feel feet few field fight figure fill final find fine finger fire first fish five flat floor flow flower fly
follow food foot for force form four free fresh friend from front fruit full fun game garden gas gave general gentle
get girl give glad glass go gold gone good got grass gray great green grew ground group grow guess gun hair half
hand happy hard has hat have he head hear heart heat heavy held help her here high hill him his history hit hold
hole home hope horse hot hour house how huge human hundred hunt ice idea if in inch iron island it job join joy jump
just keep key kill kind king knew know lady lake land large last late laugh law lay lead learn least leave left leg
less let letter level lie life lift light like line list listen little live long look lost lot loud love low machine
made main make man many map mark market mass master match matter may me mean meat meet men metal method middle might
mile milk mind minute miss modern moment money month moon more morning most mother motion mountain mouth move much
music must my name nation nature near neck need never new next night nine no noise noon nor north nose note nothing
notice noun now number object ocean of off offer office often oil old on once one only open or order other our out
over own page paint pair paper part party pass past path pay people perhaps period person picture piece place plain
plan plane plant play please point poor port post pound power press pretty print problem product proper pull push
put question quick quiet quite race radio rain ran rather reach read ready real reason record red rest result rich
ride right ring rise river road rock roll room root rope rose round row rule run safe said sail salt same sand sat
save saw say scale school science sea search season seat second see seed seem self sell send sense sent set seven
several shall shape share sharp she ship shoe shop short should show side sight sign silver simple since sing sister
sit six size skill skin sky sleep slip slow small smell smile snow so soft soil some son song soon sound south space
speak special speed spell spend spoke spring square stand star start state station stay steam steel step still stone
stood stop store story street strong study such sugar suit summer sun sure surface swim system table tail take talk
tall teach team teeth tell ten test than that the their them then there these they thick thin thing think third this
though thought three through tie time tire to together told tone too took tool top total touch town track trade
train tree trip true try tube turn twenty two type under unit until up us use usual valley value very view village
visit voice vowel wait walk wall want war warm was wash watch water wave way we wear week weight well went were west
what wheel when where which while white who whole why wide wife wild will win wind window wing winter wire wish with
woman wonder wood word work world would write wrong yard year yellow yes yet you young your
""".split()  # noqa: SIM905 - as a list it is six times as long


class Writer:
    """Writes a trace's messages. ``tokens_per_word`` is what was measured at the server."""

    def __init__(self, trace: Trace, tokens_per_word: float = 1.0) -> None:
        self._seed = trace.seed
        self._tokens_per_word = tokens_per_word
        self._numbers = {conversation.id: number for number, conversation in enumerate(trace.conversations)}
        self._order = np.random.default_rng(trace.seed).permutation(len(WORDS))

    def message(self, conversation: TraceConversation, turn: int) -> str:
        """Return what the user of ``conversation`` says in turn number ``turn``."""
        wanted = conversation.turns[turn]
        if wanted.text is not None:
            return wanted.text
        if wanted.hash_ids:
            return self._from_blocks(wanted.hash_ids, wanted.user_tokens)
        number = self._numbers[conversation.id]
        words = self.words([1, number, turn], self._num_words(wanted.user_tokens))
        if turn == 0:
            opening = self._spell(number)[: len(words)]
            words[: len(opening)] = opening
        return " ".join(words)

    def words(self, key: list[int], count: int) -> list[str]:
        """Return ``count`` words that depend on the seed and ``key``."""
        rng = np.random.default_rng([self._seed, *key])
        return [WORDS[index] for index in rng.integers(len(WORDS), size=count)]

    def _from_blocks(self, hash_ids: tuple[int, ...], tokens: int) -> str:
        block = self._num_words(BLOCK_TOKENS)
        words = [word for hash_id in hash_ids for word in self.words([2, hash_id], block)]
        return " ".join(words[: self._num_words(tokens)])

    def _num_words(self, tokens: int) -> int:
        return max(1, round(tokens / self._tokens_per_word))

    def _spell(self, number: int) -> list[str]:
        """Return ``number`` with words as its digits, the lowest digit first."""
        digits = [number % len(WORDS)]
        while number := number // len(WORDS):
            digits.append(number % len(WORDS))
        return [WORDS[self._order[digit]] for digit in digits]
