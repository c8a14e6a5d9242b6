"""Text metrics with signatures, the protocols they are used under, and the statistics that tell systems apart.

Texts → tokens (`segment`) → integers by item and reference (`counts`, the one costly step) → scores (`bleu`, `gleu`, `rouge`), which are
arithmetic on arrays of these. The numbers are those of the libraries in use; none of them is imported, the tests compare.
"""
