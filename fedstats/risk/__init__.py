"""Risk models in use: training from a study file, the folder they live in, their card, the proof of both, and what they say of a patient.

study       a TOML file -> the questions of a training        card, card_form, card_page     the model card, its form and its page
folder      model, card, page and receipt side by side        card_proof                     that all of it follows from what was signed
patients    checked input -> risks with reasons               patient_page                   one patient explained
comparison  joint against local, bagged and left-out training, in simulation
"""
