"""repairing"""
