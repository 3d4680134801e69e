// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {SettlementLedger} from "../src/SettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {TestToken} from "./Tokens.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Tokens that are large, take fees, refuse, shrink or call back.
contract TokensTest is LedgerTest {
    function testFuzz_18_decimals(uint256 alice, uint256 bob) public {
        token = new TestToken(18);
        ledger = deploy(token, DELAY);
        alice = bound(alice, 1, 10_000_000_000e18);
        bob = bound(bob, 1, 10_000_000_000e18);
        Payouts memory payouts = payoutsOf(alice, bob, 0);
        vm.prank(ADMIN);
        ledger.setMaxRate(20_000_000_000e18);
        token.mint(address(ledger), alice + bob);
        uint256 one = activate(payouts);
        claim(one, payouts, 0);
        claim(one, payouts, 1);
        vm.assertEq(token.balanceOf(ALICE), alice, "Alice");
        vm.assertEq(token.balanceOf(BOB), bob, "Bob");
        vm.assertEq(ledger.owed(), 0, "nothing owed");
    }

    /// @dev Not supported, but not dangerous: the payee bears the fee, and the ledger stays solvent.
    function testFuzz_fee_on_transfer_is_borne_by_the_payee(uint256 percent) public {
        percent = bound(percent, 0, 100);
        Payouts memory payouts = payoutsOf(1_000, 2_000, 3_000);
        uint256 one = activate(payouts);
        token.setFeePercent(percent);
        ledger.claimMany(one, batchOf(payouts));
        vm.assertEq(ledger.claimed(), 6_000, "claimed in full");
        vm.assertEq(token.balanceOf(CAROL), 3_000 - 30 * percent, "received less");
        vm.assertEq(token.balanceOf(address(ledger)), MONEY - 6_000, "the ledger paid no more than was owed");
    }

    /// @dev What a fee takes from a funding transfer never counts as funded.
    function test_fee_on_funding_counts_what_arrives() public {
        token.burn(address(ledger), MONEY);
        token.mint(address(this), 1_000);
        token.setFeePercent(10);
        token.transfer(address(ledger), 1_000);
        vm.assertEq(ledger.free(), 900, "what arrived");
        bytes32 head = ledger.head();
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 900, 901, 0));
        vm.prank(POSTER);
        ledger.post(1, head, "w", "p", "m", uint64(START - 1), uint64(START), 901, 0);
    }

    /// @dev Not supported: a balance that shrinks. Nothing can be posted until it is made good.
    function test_shrunken_balance_stops_posts() public {
        Payouts memory payouts = payoutsOf(MONEY - 1, 0, 0);
        activate(payouts);
        token.burn(address(ledger), 2);
        vm.assertEq(ledger.free(), 0, "nothing is free");
        bytes32 head = ledger.head();
        bytes32 root = rootOf(payouts);
        uint64 now_ = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, MONEY - 2, MONEY - 1, 0));
        vm.prank(POSTER);
        ledger.post(2, head, "w", root, "m", now_ - 1, now_, MONEY - 1, 0);
        token.mint(address(ledger), 1);
        post(payouts);
    }

    function test_claim_of_a_blacklisted_payee_reverts_and_claimTo_helps() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        token.setBlocked(ALICE, true);
        expectClaimRefused(one, payouts, 0, abi.encodeWithSelector(TestToken.Blocked.selector, ALICE));
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.prank(ALICE);
        ledger.claimTo(BOB, one, 100, proof);
        vm.assertEq(token.balanceOf(BOB), 100, "paid to another address of hers");
    }

    /// @dev A token that calls back finds everything that moves or counts money locked.
    function test_nothing_is_reentered() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        bytes[3] memory calls = [
            abi.encodeCall(ledger.claim, (BOB, one, 200, proofOf(payouts, 1))),
            abi.encodeCall(ledger.claimMany, (one, batchOf(payouts))),
            abi.encodeCall(ledger.close, (ADMIN))
        ];
        for (uint256 i = 0; i < 3; ++i) {
            token.setHook(address(ledger), calls[i]);
            claim(one, payouts, i);
            vm.assertTrue(!token.hookSucceeded(), "refused");
        }
        vm.assertEq(ledger.claimed(), 600, "each paid once");
        vm.assertEq(token.balanceOf(BOB), 200, "Bob once");
    }

    /// @dev In the middle of a claim what is paid is booked, but has not left: it would look free to the admin, and like
    /// funding to the poster. Both are the token itself here.
    function test_money_on_its_way_is_neither_closed_out_nor_posted_against() public {
        address thief = address(token);
        vm.chainId(31_337); // where an admin may be any contract
        Payouts memory payouts = payoutsOf(100, 0, 0);
        ledger = new SettlementLedger(settingsOf(token, DELAY), handsOf(thief, alone(AUDITOR), 1));
        token.mint(address(ledger), 100);
        uint256 one = activate(payouts);
        wait(400 days);
        token.setHook(address(ledger), abi.encodeCall(ledger.close, (ANYONE)));
        claim(one, payouts, 0);
        vm.assertTrue(!token.hookSucceeded(), "not closed out");

        ledger = deploy(token, DELAY);
        token.mint(address(ledger), 100);
        one = activate(payouts);
        bytes32 role = ledger.POSTER_ROLE();
        vm.prank(ADMIN);
        ledger.grantRole(role, thief);
        uint64 end = uint64(block.timestamp);
        bytes32 head = ledger.head();
        token.setHook(address(ledger), abi.encodeCall(ledger.post, (2, head, "w", "p", "m", end - 1, end, 200, 0)));
        claim(one, payouts, 0);
        vm.assertTrue(!token.hookSucceeded(), "not posted against");
    }

    /// @dev Tether Gold's first contract moved the tokens and returned false. What it says is not believed.
    function test_a_token_that_returns_false_on_success_is_paid_once() public {
        token = TestToken(address(new FalseOnSuccess()));
        ledger = deploy(token, DELAY);
        token.mint(address(ledger), 1_000);
        Payouts memory payouts = payoutsOf(100, 500, 400);
        uint256 one = activate(payouts);
        ISettlementLedger.Payout[] memory batch = batchOf(payouts);
        for (uint256 i = 0; i < 10; ++i) {
            ledger.claimMany(one, batch);
        }
        vm.assertEq(token.balanceOf(ALICE), 100, "once");
        vm.assertEq(token.balanceOf(BOB), 500, "and Bob too");
        vm.assertEq(ledger.claimed(), 1_000, "all of it is claimed");
    }

    /// @dev A payee whose hook burns all gas takes its own part of a batch, not that of the others.
    function test_a_payee_s_hook_cannot_stop_a_batch() public {
        CallingToken calling = new CallingToken();
        token = TestToken(address(calling));
        ledger = deploy(token, DELAY);
        token.mint(address(ledger), 1_000_000);
        address[] memory accounts = new address[](3);
        uint256[] memory amounts = new uint256[](3);
        (accounts[0], accounts[1], accounts[2]) = (address(new GasBurner()), BOB, CAROL);
        (amounts[0], amounts[1], amounts[2]) = (1, 500, 400);
        Payouts memory payouts = payoutsOf(accounts, amounts);
        uint256 one = activate(payouts);
        (bool ok,) = address(ledger).call{gas: 1_000_000}(abi.encodeCall(ledger.claimMany, (one, batchOf(payouts))));
        vm.assertTrue(ok, "a million gas is enough for three leaves");
        vm.assertEq(ledger.claimed(), 900, "the others are paid, the burner put back");
    }
}

/// @notice Moves the tokens, and says that it did not.
contract FalseOnSuccess is TestToken {
    constructor() TestToken(6) {}

    function transfer(address to, uint256 amount) public override returns (bool) {
        super.transfer(to, amount);
        return false;
    }
}

/// @notice Tells a recipient that is a contract.
contract CallingToken is TestToken {
    constructor() TestToken(6) {}

    function transfer(address to, uint256 amount) public override returns (bool) {
        super.transfer(to, amount);
        if (to.code.length > 0) GasBurner(to).tokensReceived();
        return true;
    }
}

/// @notice Burns whatever gas there is.
contract GasBurner {
    function tokensReceived() external pure {
        while (true) {}
    }
}
