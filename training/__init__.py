"""How the bundled story model is made: corpus, tokenizer, training, export, evaluation.

Needs torch and transformers (requirements.txt); nothing in ``bitnet`` imports this package.
"""
