"""Text metrics with signatures, the protocols they are used under, and the statistics that tell systems apart.

One answer:

>>> from medchatzh.metrics import PROTOCOLS, Batch, Bleu, Rouge, Segmenter
>>> round(Bleu(smoothing="method1").score("多喝水，多休息", ["多喝热水，注意休息", "多喝水"])["BLEU-2"], 2)
56.81
>>> Rouge(library="rouge-chinese", segmenter=Segmenter("jieba")).names
('ROUGE-1', 'ROUGE-2', 'ROUGE-L')

Many, each text cut and counted once for all metrics, as a mean over answers or as one corpus:

>>> batch = Batch.of(["多喝水", "好好休息"], [["多喝热水"], ["注意休息", "好好睡觉"]])
>>> Bleu().scores(batch).shape, Rouge().scores(batch).mean(axis=0).round(1).tolist()
((2, 4), [67.9, 36.7, 67.9])
>>> round(Bleu().corpus(batch)["BLEU-2"], 2)
67.15
>>> Bleu().signature("1(pos)", "corpus")  # doctest: +ELLIPSIS
'BLEU|lvl:corpus|w:cum|tok:char|ws:drop|smooth:none|refs:1(pos)|agg:max|v:medchatzh-...=nltk-3.8.1'

The eight numbers of a protocol, an answer a row:

>>> PROTOCOLS["medchatzh"].scores(["多喝水"], [["多喝热水", "按时吃药"]]).shape
(1, 8)

Texts → tokens (`segment`) → integers by item and reference (`counts`, the one costly step) → scores (`bleu`, `gleu`, `rouge`,
`diversity`), which are arithmetic on arrays of these. The numbers are those of the libraries in use; none of them is imported, the tests
compare.
"""

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.bleu import Bleu
from medchatzh.metrics.diversity import Distinct, Length
from medchatzh.metrics.gleu import Gleu
from medchatzh.metrics.protocols import PROTOCOLS, Protocol
from medchatzh.metrics.rouge import Rouge
from medchatzh.metrics.segment import Segmenter
from medchatzh.metrics.signature import conflicts

__all__ = ["PROTOCOLS", "Batch", "Bleu", "Distinct", "Gleu", "Length", "Protocol", "Rouge", "Segmenter", "conflicts"]
