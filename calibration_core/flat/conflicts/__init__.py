"""Why targets cannot be met, found before and after solving, as data and in words. Belongs here:
diagnosis. Does not belong here: solving.
"""
